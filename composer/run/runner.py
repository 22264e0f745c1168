"""The worker's side of one composition: rows, files, beats. It never computes and never imports torch.

The numbers are made by composer.core.job.run in a child of the launcher, which gets a folder and
nothing else, and gives back events and a folder.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from composer.core.spec.job_spec import STOP_FILE
from composer.models import (
    Composition,
    ScreenedLoss,
)
from composer.run.events import store_events
from composer.run.job_folder import job_folder, remove_orphaned_folders, write_job, write_record
from composer.run.results import RESULT_FOLDER, delete_adapter, keep_adapter, keep_result
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.children import Child, ChildDied, Launcher
from hub_site.jobs.sandbox import Limits
from hub_site.jobs.work import BROKEN_MESSAGE_WITH_PAGE, HeldJob, JobKind, run_job
from modules_registry.storage import PASSING_ERRORS, StorageError

TICK_S = 0.25  # the longest an event waits before it becomes a row
CPU_SPARE_S = 60  # beyond the deadline, for each thread: the clock should stop a job first
SCREENED_KEPT = timedelta(days=30)
SENTENCES = {
    "out_of_memory": "The work needed more memory than one job may have. Try fewer or smaller modules.",
}


@cache
def launcher() -> Launcher:
    """One per worker process. It imports the core; this process never does."""
    return Launcher(
        preload="composer.run.child",
        call="composer.run.child:run",
        root=settings.BASE_DIR,
        threads=settings.HUB_THREADS,
        ready=settings.HUB_DATA / "run" / "launcher.ready",
    )


def start_launcher() -> None:
    """Import torch and its friends in it while the worker itself starts."""
    launcher().start()


def stop_launcher() -> None:
    launcher().stop()


COMPOSITIONS = JobKind(
    Composition,
    passing=PASSING_ERRORS,
    refusals=(StorageError,),
    sentences=SENTENCES,
    broken_message=BROKEN_MESSAGE_WITH_PAGE,
    on_cancelled=delete_adapter,
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


def follow(composition: Composition, child: Child, folder: Path) -> None:
    """Store the child's events as they come; leave it when the row, the clock or a shutdown says so."""
    deadline = time.monotonic() + settings.HUB_COMPOSE_DEADLINE_S

    def on_beat() -> None:
        require_time_left(deadline)
        pass_on_stop(composition, folder)

    held = HeldJob(composition, on_beat)
    pending: list[Mapping[str, Any]] = []
    try:
        for event in child.events(TICK_S):
            if event is not None:
                pending.append(event)
                continue
            take_in(composition, pending, folder)
            pending = []
            held.check()
    except ChildDied:
        take_in(composition, pending, folder)  # what it told before it died
        raise
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


def take_in(composition: Composition, events: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The adapter before the event that tells of it, so that who reads the event finds the files."""
    for event in events:
        if event["event"] == "adapter":
            keep_adapter(composition, folder / Path(event["folder"]).name)
    store_events(composition, events)


def sweep() -> list[UUID]:
    """Free what vanished workers held; returns the compositions to queue again."""
    remove_orphaned_folders()
    ScreenedLoss.objects.filter(created_at__lt=timezone.now() - SCREENED_KEPT).delete()
    return leases.sweep(Composition)
