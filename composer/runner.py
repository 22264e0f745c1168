"""The worker's side of one composition: rows, files, beats. It never computes and never imports torch.

The numbers are made by composer.core.job.run in a child of the launcher, which gets a folder and
nothing else, and gives back events and a folder.
"""

import errno
import json
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from composer import selectors
from composer.core.choices import DEFAULT_MAX_NEW_TOKENS, DEFAULT_TEMPLATE
from composer.examples import Pair
from composer.models import Composition, CompositionEvent, CompositionModule, ResultFile
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.children import Child, ChildDied, ChildRefused, Launcher
from hub_site.jobs.models import LEASE, Status
from hub_site.jobs.sandbox import MIB, Limits
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.intake import stored
from modules_registry.selectors import store
from modules_registry.storage import StorageError, StorageFullError

logger = logging.getLogger(__name__)

TICK_S = 0.25  # the longest an event waits before it becomes a row
BEAT_S = 1.0  # how often the lease is prolonged and a cancellation read
CPU_SPARE_S = 60  # beyond the deadline, for each thread: the clock should stop a job first
# Events that become rows. "state" and "screened" are for whoever starts a search again, not for a reader.
KINDS_KEPT = frozenset({"stage", "step", "adapter", "baseline"})
REPORT_FILE, CARD_FILE = "report.json", "README.md"
RESULT_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, REPORT_FILE)
RESULT_FILE_MB_MAX = 2048
WORKER = f"{socket.gethostname()}:{os.getpid()}"

BROKEN_MESSAGE = (
    "Something broke on our side. Try again; if it breaks again, tell the site's operator this address."
)
SENTENCES = {
    "out_of_memory": "The work needed more memory than one job may have. Try fewer or smaller modules.",
    "disk_full": str(StorageFullError()),
}

stopping = threading.Event()  # set when the worker is asked to end


class Cancelled(Exception):
    """The owner does not want it any more."""


class Stopping(Exception):
    """The worker is asked to end: another one shall have the job."""


class DeadlinePassed(Exception):
    code = "deadline"

    def __init__(self, deadline_s: int) -> None:
        super().__init__(
            f"The work was stopped after {deadline_s // 60} minutes, the longest it may take here. "
            "Try fewer modules, fewer examples or a smaller budget."
        )


@cache
def launcher() -> Launcher:
    """One per worker process. It imports the core; this process never does."""
    return Launcher(
        preload="composer.core.job",
        call="composer.core.job:run",
        root=settings.BASE_DIR,
        threads=settings.HUB_THREADS,
        ready=settings.HUB_DATA / "run" / "launcher.ready",
    )


def composition_run(composition_id: UUID) -> None:
    """Do one composition, from its row to its row. Harmless when it is taken, finished or gone."""
    composition = leases.claim(Composition, composition_id, worker=WORKER)
    if composition is None:
        logger.info("composition %s is taken, finished or gone", composition_id)
        return
    try:
        attempt(composition)
    except leases.LeaseLost:
        logger.warning("composition %s went to another worker; nothing more is written", composition_id)


def attempt(composition: Composition) -> None:
    """Compose, and close the row by what came of it."""
    try:
        compose(composition)
    except Cancelled:
        leases.finish(composition, Status.CANCELLED)
    except Stopping:
        leases.let_go(composition)
    except ChildDied as death:
        logger.error("composition %s: %s", composition.pk, death)
        leases.crashed(composition)
    except (ChildRefused, Refusal, StorageError, DeadlinePassed) as refusal:
        fail(composition, refusal.code, SENTENCES.get(refusal.code, str(refusal)))
    except leases.LeaseLost:
        raise
    except Exception:
        fail(composition, "broken", BROKEN_MESSAGE)
        raise  # Celery logs it with the traceback


def fail(composition: Composition, code: str, message: str) -> None:
    leases.finish(composition, Status.FAILED, error_code=code, error_message=message)


def compose(composition: Composition) -> None:
    with job_folder(composition) as folder:
        write_job(composition, folder)
        limits = Limits(
            memory_mb=settings.HUB_COMPOSE_MEMORY_MB,
            cpu_s=(settings.HUB_COMPOSE_DEADLINE_S + CPU_SPARE_S) * settings.HUB_THREADS,
        )
        with launcher().start_child(folder, limits) as child:
            follow(composition, child)
        keep_result(composition, folder / "out")


@contextmanager
def job_folder(composition: Composition) -> Iterator[Path]:
    folder = jobs_folder() / f"{composition.pk}-{composition.generation}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        with full_disk_told():
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def jobs_folder() -> Path:
    return Path(settings.HUB_DATA) / "jobs"


@contextmanager
def full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError from error
        raise


def write_job(composition: Composition, folder: Path) -> None:
    """Put everything the child needs into its folder: it has no database, store or network."""
    modules = list(composition.modules.select_related("version"))
    write_json(folder / "job.json", job_description(composition, modules))
    write_examples(folder / "examples.jsonl", selectors.shots_of(composition))
    if held_out := selectors.held_out_of(composition):
        write_examples(folder / "held_out.jsonl", held_out)
    fetch_files(folder / "base", dict(composition.base.files.values_list("path", "sha256")))
    for module in modules:
        files = dict(module.version.files.values_list("path", "sha256"))
        wanted = {path: files[path] for path in (CONFIG_FILE, WEIGHTS_FILE)}
        fetch_files(folder / module_folder(module), wanted, check=True)


def job_description(composition: Composition, modules: list[CompositionModule]) -> dict[str, Any]:
    return {
        "schema": 1,
        "method": composition.method,
        "search": composition.search,
        "objective": "loss",
        "select": "all",  # drawn already: the rows say which
        "budget": composition.budget,
        "seed": composition.seed,
        "precision": "fp32",
        "device": "cpu",
        "template": DEFAULT_TEMPLATE,
        "max_new_tokens": DEFAULT_MAX_NEW_TOKENS,
        "baselines": "always",
        "base": {"name": composition.base.name, "revision": composition.base.revision},
        "modules": [
            {
                "name": module.name,
                "folder": module_folder(module),
                "revision": module.version.commit_id,
                "sha256": module.version.weights_sha256,
            }
            for module in modules
        ],
    }


def module_folder(module: CompositionModule) -> str:
    return f"modules/{module.position}"


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_examples(path: Path, pairs: list[Pair]) -> None:
    lines = (json.dumps({"input": pair.input, "output": pair.output}) + "\n" for pair in pairs)
    path.write_text("".join(lines), encoding="utf-8")


def fetch_files(folder: Path, files: Mapping[str, str], *, check: bool = False) -> None:
    """Put stored files into a folder; with check, each is held against its sha256 before."""
    folder.mkdir(parents=True)
    for path, sha256 in files.items():
        store().fetch(sha256, folder / path, check=check)


def follow(composition: Composition, child: Child) -> None:
    """Store the child's events as they come; leave it when the row, the clock or a shutdown says so."""
    deadline = time.monotonic() + settings.HUB_COMPOSE_DEADLINE_S
    next_beat = 0.0
    pending: list[Mapping[str, Any]] = []
    for event in child.events(TICK_S):
        if event is not None:
            pending.append(event)
            continue
        store_events(composition, pending)
        pending = []
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + BEAT_S
            look_around(composition, deadline)
    store_events(composition, pending)


def look_around(composition: Composition, deadline: float) -> None:
    """Beat, and raise whatever is a reason to stop."""
    if leases.beat(composition):
        raise Cancelled
    if stopping.is_set():
        raise Stopping
    if time.monotonic() > deadline:
        raise DeadlinePassed(settings.HUB_COMPOSE_DEADLINE_S)


def store_events(composition: Composition, told: list[Mapping[str, Any]]) -> None:
    kept = [event for event in told if event["event"] in KINDS_KEPT]
    if not kept:
        return
    progress: dict[str, Any] = {}
    for event in kept:
        progress |= progress_of(event)
    rows = [CompositionEvent(kind=event["event"], detail=detail_of(event)) for event in kept]
    leases.append_events(composition, rows, progress=progress)


def progress_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The row's own columns that this event moves."""
    if event["event"] == "stage":
        return {"stage": event["stage"][:20], "stage_text": event.get("text", "")[:200]}
    if event["event"] != "step":
        return {}
    return {
        "steps_done": event["step"],
        "steps_planned": event["budget"],
        "best_loss": event["best_loss"],
    }


def detail_of(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "event"}


def keep_result(composition: Composition, out: Path) -> None:
    """The files and the row in one transaction: DONE, the weights, the files. Only while it is ours."""
    report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
    weights = {module["name"]: module["weight"] for module in report["modules"]}
    modules = list(composition.modules.all())
    for module in modules:
        module.weight = weights.get(module.name)
    with ExitStack() as stack:
        files = {path: stack.enter_context(open_plain(out / path)) for path in RESULT_FILES}
        blobs = stack.enter_context(stored(files, max_bytes=RESULT_FILE_MB_MAX * MIB))
        leases.finish(composition, Status.DONE, report=report)
        CompositionModule.objects.bulk_update(modules, ["weight"])
        ResultFile.objects.bulk_create(
            ResultFile(composition=composition, path=path, sha256=blob.sha256, size_bytes=blob.size_bytes)
            for path, blob in blobs.items()
        )


def open_plain(path: Path) -> BinaryIO:
    """Open what a child wrote, and nothing that it may point at."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def sweep() -> list[UUID]:
    """Free what dead workers held; returns the compositions whose bell should ring again."""
    remove_orphaned_folders()
    return leases.sweep(Composition)


def remove_orphaned_folders() -> None:
    """Job folders whose job no longer runs in that generation, once their worker had time to clear up."""
    folders = [path for path in jobs_folder().glob("*-*") if is_old(path)]
    running = {
        f"{pk}-{generation}"
        for pk, generation in Composition.objects.filter(status=Status.RUNNING).values_list(
            "pk", "generation"
        )
    }
    for folder in folders:
        if folder.name not in running:
            shutil.rmtree(folder, ignore_errors=True)


def is_old(path: Path) -> bool:
    try:
        return timezone.now().timestamp() - path.stat().st_mtime > LEASE.total_seconds()
    except FileNotFoundError:
        return False
