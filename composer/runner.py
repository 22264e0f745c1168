"""The worker's side of one composition: rows, files, beats. It never computes and never imports torch.

The numbers are made by composer.core.job.run in a child of the launcher, which gets a folder and
nothing else, and gives back events and a folder.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from smtplib import SMTPException
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from composer import selectors
from composer.core.spec.job_spec import STOP_FILE
from composer.examples import json_lines
from composer.matching.selection import module_text, selection_left
from composer.models import (
    Composition,
    CompositionEvent,
    CompositionModule,
    ResultFile,
    ScreenedLoss,
    SearchState,
)
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.children import Child, Launcher
from hub_site.jobs.models import LEASE, Status
from hub_site.jobs.sandbox import MIB, Limits
from hub_site.jobs.work import HeldJob, JobKind, run_job
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.intake import blobs_forget, stored
from modules_registry.selectors import store
from modules_registry.storage import Blob, StorageError, StorageFullError

TICK_S = 0.25  # the longest an event waits before it becomes a row
CPU_SPARE_S = 60  # beyond the deadline, for each thread: the clock should stop a job first
# Events that become rows. "state" and "screened" are for whoever starts a search again, not for a reader.
KINDS_KEPT = frozenset({"stage", "alone", "step", "adapter", "baseline"})
SCREENED_KEPT = timedelta(days=30)
REPORT_FILE = "report.json"
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
RESULT_FILES = (*ADAPTER_FILES, REPORT_FILE)
RESULT_FOLDER = "out"
RESULT_FILE_MB_MAX = 2048
BROKEN_MESSAGE = (
    "Something broke on our side. Try again; if it breaks again, tell the site's operator this address."
)
SENTENCES = {
    "out_of_memory": "The work needed more memory than one job may have. Try fewer or smaller modules.",
    "disk_full": str(StorageFullError()),
}


@cache
def launcher() -> Launcher:
    """One per worker process. It imports the core; this process never does."""
    return Launcher(
        preload="composer.child",
        call="composer.child:run",
        root=settings.BASE_DIR,
        threads=settings.HUB_THREADS,
        ready=settings.HUB_DATA / "run" / "launcher.ready",
    )


def start_launcher() -> None:
    """Import torch and its friends in it while the worker itself starts."""
    launcher().start()


def stop_launcher() -> None:
    launcher().stop()


def forget_adapter(composition: Composition) -> None:
    """Who cancelled wants nothing of it."""
    hashes = set(composition.files.values_list("sha256", flat=True))
    composition.files.all().delete()
    blobs_forget(hashes)


COMPOSITIONS = JobKind(
    Composition,
    refusals=(StorageError,),
    sentences=SENTENCES,
    broken_message=BROKEN_MESSAGE,
    on_cancelled=forget_adapter,
)


def composition_run(composition_id: UUID) -> None:
    """Do one composition, from its row to its row. Harmless when it is taken, finished or gone."""
    run_job(COMPOSITIONS, composition_id, compose)


def compose(composition: Composition) -> None:
    with job_folder(composition) as folder:
        write_job(composition, folder)
        write_record(composition, folder)
        limits = Limits(
            memory_mb=settings.HUB_COMPOSE_MEMORY_MB,
            cpu_s=(settings.HUB_COMPOSE_DEADLINE_S + CPU_SPARE_S) * settings.HUB_THREADS,
        )
        with launcher().start_child(folder, limits) as child:
            follow(composition, child, folder)
        keep_result(composition, folder / RESULT_FOLDER)


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
    write_text(folder / "job.json", json.dumps(job_description(composition, modules), indent=1))
    write_text(folder / "examples.jsonl", json_lines(selectors.shots_of(composition)))
    if held_out := selectors.held_out_of(composition):
        write_text(folder / "held_out.jsonl", json_lines(held_out))
    fetch_files(folder / "base", dict(composition.base.files.values_list("path", "sha256")))
    for module in modules:
        files = dict(module.version.files.values_list("path", "sha256"))
        wanted = {path: files[path] for path in (CONFIG_FILE, WEIGHTS_FILE)}
        fetch_files(folder / module_folder(module), wanted, check=True)


def job_description(composition: Composition, modules: list[CompositionModule]) -> dict[str, Any]:
    select = selection_left(composition)
    return {
        "schema": 1,
        "method": composition.method,
        "search": composition.search,
        "objective": composition.objective,
        "select": select,
        "budget": composition.budget,
        "batch_size": composition.batch_size,
        "seed": composition.seed,
        "precision": composition.precision,
        "device": composition.device,
        "rank": composition.rank,
        "template": composition.template,
        "max_new_tokens": composition.max_new_tokens,
        "baselines": composition.baselines,
        "sentence": composition.sentence,
        "base": {"name": composition.base.name, "revision": composition.base.revision},
        "modules": [
            {
                "name": module.name,
                "folder": module_folder(module),
                "revision": module.version.commit_id,
                "sha256": module.version.weights_sha256,
                "text": module_text(module.version, select),
            }
            for module in modules
        ],
    }


def write_record(composition: Composition, folder: Path) -> None:
    """What is known already: how far an earlier attempt came, and losses that need no scoring."""
    write_lines(folder / "steps.jsonl", selectors.search_record(composition))
    write_lines(folder / "screened.jsonl", selectors.screened_before(composition))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def module_folder(module: CompositionModule) -> str:
    return f"modules/{module.position}"


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def fetch_files(folder: Path, files: Mapping[str, str], *, check: bool = False) -> None:
    """Put stored files into a folder; with check, each is held against its sha256 before."""
    folder.mkdir(parents=True)
    for path, sha256 in files.items():
        store().fetch(sha256, folder / path, check=check)


def follow(composition: Composition, child: Child, folder: Path) -> None:
    """Store the child's events as they come; leave it when the row, the clock or a shutdown says so."""
    deadline = time.monotonic() + settings.HUB_COMPOSE_DEADLINE_S

    def on_beat() -> None:
        require_time_left(deadline)
        pass_on_stop(composition, folder)

    held = HeldJob(composition, on_beat)
    pending: list[Mapping[str, Any]] = []
    for event in child.events(TICK_S):
        if event is not None:
            pending.append(event)
            continue
        take_in(composition, pending, folder)
        pending = []
        held.check()
    take_in(composition, pending, folder)


def require_time_left(deadline: float) -> None:
    if time.monotonic() > deadline:
        minutes = settings.HUB_COMPOSE_DEADLINE_S // 60
        raise Refusal(
            "deadline",
            f"The work was stopped after {minutes} minutes, the longest it may take here. "
            "Try fewer modules, fewer examples or a smaller budget.",
        )


def pass_on_stop(composition: Composition, folder: Path) -> None:
    """Tell the child, by a file, that its owner wants the best found so far."""
    if Composition.objects.filter(pk=composition.pk, stop_requested=True).exists():
        (folder / STOP_FILE).touch()


def take_in(composition: Composition, told: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The adapter before the event that tells of it, so that who reads the event finds the files."""
    for event in told:
        if event["event"] == "adapter":
            keep_adapter(composition, folder / Path(event["folder"]).name)
    store_events(composition, told)


@transaction.atomic
def store_events(composition: Composition, told: Sequence[Mapping[str, Any]]) -> None:
    """Rows for readers; states and losses for whoever goes on from here. All of them or none."""
    kept = [event for event in told if event["event"] in KINDS_KEPT]
    progress: dict[str, Any] = {}
    for event in kept:
        progress |= progress_of(event)
    if told:
        rows = [CompositionEvent(kind=event["event"], detail=detail_of(event)) for event in kept]
        leases.append_events(composition, rows, progress=progress)
    store_states(composition, [event for event in told if event["event"] == "state"])
    store_screened([event for event in told if event["event"] == "screened"])


def store_states(composition: Composition, states: Sequence[Mapping[str, Any]]) -> None:
    """Only the last state of each fit is of use."""
    last = {state["fit"]: state for state in states}
    SearchState.objects.bulk_create(
        [SearchState(composition=composition, fit=fit, state=state) for fit, state in last.items()],
        update_conflicts=True,
        unique_fields=["composition", "fit"],
        update_fields=["state"],
    )


def store_screened(screened: Sequence[Mapping[str, Any]]) -> None:
    """Whoever scored a loss first, it is the same loss."""
    ScreenedLoss.objects.bulk_create(
        [
            ScreenedLoss(
                context=event["context"], module_sha256=event["module"], example_sha256=example, nats=nats
            )
            for event in sorted(screened, key=itemgetter("context", "module"))  # one order: no deadlock
            for example, nats in sorted(event["nats"].items())
        ],
        ignore_conflicts=True,
    )


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


def keep_adapter(composition: Composition, out: Path) -> None:
    """The adapter's files, to be downloaded while the comparisons run; an earlier attempt's go."""
    with ExitStack() as stack:
        folder = open_result(stack, out)
        files = {path: open_plain(stack, folder, path) for path in ADAPTER_FILES}
        blobs = stack.enter_context(stored(files, max_bytes=RESULT_FILE_MB_MAX * MIB))
        leases.append_events(composition, [])  # raises if it is not ours any more
        replace_files(composition, blobs)


def keep_result(composition: Composition, out: Path) -> None:
    """The files and the row in one transaction: DONE, the weights, the files. Only while it is ours."""
    report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
    weights = {module["name"]: module["weight"] for module in report["modules"]}
    modules = list(composition.modules.all())
    for module in modules:
        module.weight = weights.get(module.name)
    with ExitStack() as stack:
        folder = open_result(stack, out)
        files = {path: open_plain(stack, folder, path) for path in RESULT_FILES}
        blobs = stack.enter_context(stored(files, max_bytes=RESULT_FILE_MB_MAX * MIB))
        leases.finish(composition, Status.DONE, report=report)
        CompositionModule.objects.bulk_update(modules, ["weight"])
        SearchState.objects.filter(composition=composition).delete()
        replace_files(composition, blobs)


def replace_files(composition: Composition, blobs: Mapping[str, Blob]) -> None:
    """These are the composition's files, and no others."""
    earlier = set(composition.files.values_list("sha256", flat=True))
    composition.files.all().delete()
    ResultFile.objects.bulk_create(
        ResultFile(composition=composition, path=path, sha256=blob.sha256, size_bytes=blob.size_bytes)
        for path, blob in blobs.items()
    )
    if unused := earlier - {blob.sha256 for blob in blobs.values()}:
        transaction.on_commit(partial(blobs_forget, unused))


def open_result(stack: ExitStack, out: Path) -> int:
    """The folder itself, which the child may rename while we read: it is `out` once all is done."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        folder = os.open(out, flags)
    except FileNotFoundError:
        folder = os.open(out.parent / RESULT_FOLDER, flags)
    stack.callback(os.close, folder)
    return folder


def open_plain(stack: ExitStack, folder: int, path: str) -> BinaryIO:
    """Open what a child wrote, and nothing that it may point at."""
    return stack.enter_context(os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb"))


def letters_due() -> list[UUID]:
    """The compositions whose letter has to go."""
    return selectors.letters_due()


def letter_send(composition_id: UUID) -> None:
    """Write to the owner that it is done, or failed, if they wish it; once, and harmless when it has gone."""
    wanted = Composition.objects.filter(
        pk=composition_id, mail_when_done=True, mailed_at=None, status__in=selectors.LETTER_ON
    )
    # Marked first: a worker that dies in between leaves no letter, where otherwise there would be two.
    if not wanted.update(mailed_at=timezone.now()):
        return
    composition = Composition.objects.select_related("owner").get(pk=composition_id)
    if not composition.owner.email:
        return
    try:
        send_mail(
            subject=" ".join(f"{composition.get_status_display()}: {composition.name}".split()),
            message=render_to_string(
                "composer/letter.txt", {"composition": composition, "address": settings.PUBLIC_ADDRESS}
            ),
            from_email=None,
            recipient_list=[composition.owner.email],
        )
    except (OSError, SMTPException):  # nothing has gone: the sweeper tries again
        Composition.objects.filter(pk=composition_id).update(mailed_at=None)
        raise


def sweep() -> list[UUID]:
    """Free what dead workers held; returns the compositions whose bell should ring again."""
    remove_orphaned_folders()
    ScreenedLoss.objects.filter(created_at__lt=timezone.now() - SCREENED_KEPT).delete()
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
