"""The worker's side of one composition: rows, files, beats. It never computes and never imports torch.

The numbers are made by composer.core.job.run in a child of the launcher, which gets a folder and
nothing else, and gives back events and a folder.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from composer.core.spec.counting import count_noun
from composer.core.spec.errors import STOPPED_BY_WISH, STOPPED_FOR_TIME
from composer.core.spec.job_spec import STOP_FILE, UNFINISHED_FOLDER
from composer.guests import guests_sweep
from composer.models import Attempt, Composition, ExampleSearch, ScreenedLoss
from composer.run.events import store_events
from composer.run.example_search import measure
from composer.run.job_folder import job_folder, write_job, write_record
from composer.run.results import REPORT_FILE, RESULT_FOLDER, delete_adapter, keep_adapter, keep_result
from composer.timing.estimates import usual_candidate_s
from composer.timing.limits import SEARCH_SHARE, deadline_s, work_that_fits
from composer.timing.turns import waiting_in_turn
from hub_site.common.errors import Refusal
from hub_site.common.readiness import COMPLETE
from hub_site.jobs import leases
from hub_site.jobs.children import Child, ChildDied, ChildInterrupted, Launcher
from hub_site.jobs.health_server import check_live, check_ready
from hub_site.jobs.presence import find_cuda, keep_announcing
from hub_site.jobs.sandbox import Limits
from hub_site.jobs.slots import Slots
from hub_site.jobs.work import (
    BROKEN_MESSAGE_WITH_PAGE,
    WORKER,
    HandBack,
    HeldJob,
    JobKind,
    run_claimed,
    run_job,
)
from modules_registry.storage import PASSING_ERRORS, StorageError

log = logging.getLogger(__name__)

TICK_S = 0.25  # the longest an event waits before it becomes a row
CPU_SPARE_S = 60  # beyond the deadline, for each thread: the clock should stop a job first
SCREENED_KEPT = timedelta(days=30)
ATTEMPTS_KEPT = timedelta(days=1)
SEARCHES_KEPT = timedelta(days=1)
WAITS_FOR_A_PLACE = timedelta(seconds=3)  # a free place takes a quick job within a second
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


@cache
def slots() -> Slots:
    """The places of this worker process."""
    return Slots(settings.HUB_COMPOSE_SLOTS, claim_next, job_done)


def start_worker(after_each: Callable[[], None]) -> None:
    """Import torch and its friends in the launcher, announce what this machine has, and take jobs.

    Args:
        after_each: called after every job, whatever came of it.
    """
    launcher().start()
    keep_announcing(
        "compose",
        slots=settings.HUB_COMPOSE_SLOTS,
        memory_mb=settings.HUB_COMPOSE_MEMORY_MB,
        has_cuda=has_cuda(),
    )
    slots().start(after_each)
    check_live("places", lambda: COMPLETE if slots().are_alive() else "a place has ended")
    check_ready("launcher", lambda: COMPLETE if launcher().has_imported() else "importing")


def stop_worker() -> None:
    slots().join()
    launcher().stop()


@cache
def has_cuda() -> bool:
    told = settings.HUB_COMPOSE_CUDA
    return find_cuda() if told == "auto" else told == "yes"


COMPOSITIONS = JobKind(
    Composition,
    passing=PASSING_ERRORS,
    refusals=(StorageError,),
    sentences=SENTENCES,
    broken_message=BROKEN_MESSAGE_WITH_PAGE,
    on_cancelled=delete_adapter,
)


SEARCHES = JobKind(
    ExampleSearch,
    passing=PASSING_ERRORS,
    refusals=(StorageError,),
    sentences=SENTENCES,
    broken_message=BROKEN_MESSAGE_WITH_PAGE,
)


def claim_next(is_quick: bool) -> Composition | ExampleSearch | None:
    """Take the job of this lane whose turn it is, and for which this worker has what it needs.

    A search by examples takes seconds: it comes before the quick compositions.
    """
    if is_quick:
        searches = ExampleSearch.objects.due().filter(memory_mb__lte=settings.HUB_COMPOSE_MEMORY_MB)
        search: ExampleSearch | None = leases.claim_first(searches.order_by("created_at"), worker=WORKER)
        if search is not None:
            return search
    return leases.claim_first(waiting_for_this_worker(is_quick=is_quick), worker=WORKER)


def job_done(job: Composition | ExampleSearch) -> None:
    if isinstance(job, ExampleSearch):
        run_claimed(SEARCHES, job, search_by_examples)
    else:
        composition_done(job)


def search_by_examples(search: ExampleSearch) -> None:
    with job_folder(search) as folder:
        measure(search, folder, launcher(), settings.HUB_COMPOSE_MEMORY_MB)


def waiting_for_this_worker(*, is_quick: bool) -> QuerySet[Composition]:
    """Those of a lane that wait, are due, and need nothing that this worker lacks; the next one first."""
    waiting = waiting_in_turn(is_quick=is_quick).filter(memory_mb__lte=settings.HUB_COMPOSE_MEMORY_MB)
    return waiting if has_cuda() else waiting.exclude(device="cuda")


def composition_done(composition: Composition) -> None:
    """Do a composition that this worker has claimed, from its row to its row."""
    run_claimed(COMPOSITIONS, composition, compose)


def composition_run(composition_id: UUID) -> None:
    """Do this one composition out of turn. Harmless when it is taken, finished or gone."""
    run_job(COMPOSITIONS, composition_id, compose)


def compose(composition: Composition) -> None:
    attempt = Attempt.objects.create(
        owner_id=composition.owner_id, composition_id=composition.pk, is_quick=composition.is_quick
    )
    with job_folder(composition) as folder:
        write_job(composition, folder, HeldJob(composition).check)
        write_record(composition, folder)
        pass_on_stop(composition, folder, taken_s=0)  # asked for between two attempts: one step is searched
        limits = Limits(
            memory_mb=settings.HUB_COMPOSE_MEMORY_MB,
            cpu_s=(deadline_s(composition.owner) + CPU_SPARE_S) * settings.HUB_THREADS,
        )
        with launcher().start_child(folder, limits) as child:
            result = follow(composition, child, folder, attempt)
        keep_result(composition, result)


def follow(composition: Composition, child: Child, folder: Path, attempt: Attempt) -> Path:
    """Store the child's events as they come; return the folder of the result.

    Leave the child when the row, the clock or a shutdown says so. When the time is up, a result whose
    comparison is not whole yet is a result: its report says what was not measured.
    """
    unfinished = folder / UNFINISHED_FOLDER

    def on_beat() -> None:
        count_cpu(attempt, child)
        taken_s = child.computing_s()
        require_time_left(taken_s, deadline_s(composition.owner))
        require_lane(composition, taken_s)
        pass_on_stop(composition, folder, taken_s)

    held = HeldJob(composition, on_beat)
    pending: list[Mapping[str, Any]] = []
    try:
        for event in child.events(TICK_S):
            if event is not None and event["event"] == "measured":
                fit_to_time(composition, folder, event, child.computing_s())
                continue
            if event is not None:
                pending.append(event)
                continue
            take_in(composition, pending, folder)
            pending = []
            held.check()
    except (ChildDied, ChildInterrupted):
        take_in(composition, pending, folder)  # what it told before it died
        raise
    except OutOfTime:
        if not (unfinished / REPORT_FILE).is_file():
            raise
        log.info("Composition %s: the comparison was cut short by the deadline", composition.pk)
        return unfinished
    take_in(composition, pending, folder)
    count_cpu(attempt, child)
    return folder / RESULT_FOLDER


def count_cpu(attempt: Attempt, child: Child) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(cpu_s=child.cpu_s, seen_at=Now())


def require_lane(composition: Composition, taken_s: float) -> None:
    """Move a job out of the quick lane that takes longer than a quick one may.

    It counts as long while this worker has a place for long jobs. Without one it goes on until a quick job
    waits; then it waits for such a place itself, and its search goes on where it was.
    """
    quick_s = settings.HUB_COMPOSE_QUICK_S
    if not composition.is_quick or taken_s <= quick_s:
        return
    has_place = slots().move_to_long(composition)
    waiting = waiting_for_this_worker(is_quick=True).filter(due_at__lte=Now() - WAITS_FOR_A_PLACE)
    if not has_place and not waiting.exists():
        return
    held = Composition.objects.held(composition.generation).filter(pk=composition.pk)
    held.update(is_quick=False, estimated_s=F("estimated_s") + quick_s)
    if not has_place:
        raise HandBack


class OutOfTime(Refusal):
    """The work took as long as one job may."""


def require_time_left(taken_s: float, limit_s: int) -> None:
    if taken_s > limit_s:
        minutes = limit_s // 60
        raise OutOfTime(
            "deadline",
            f"Stopped after {count_noun(minutes, 'minute')}, the longest it may take here. "
            "Try fewer modules, fewer examples or a smaller budget.",
        )


def pass_on_stop(composition: Composition, folder: Path, taken_s: float) -> None:
    """Tell the child, by a file, that it should end its search with the best so far, and why.

    Its owner wants it, or the rest of the time is needed for the adapter and the comparison.
    """
    is_late = taken_s > SEARCH_SHARE * deadline_s(composition.owner)
    if Composition.objects.filter(pk=composition.pk, stop_requested=True).exists():
        (folder / STOP_FILE).write_text(STOPPED_BY_WISH, encoding="utf-8")
    elif is_late:
        (folder / STOP_FILE).write_text(STOPPED_FOR_TIME, encoding="utf-8")


def fit_to_time(composition: Composition, folder: Path, measured: Mapping[str, Any], taken_s: float) -> None:
    """Tell the child how much work fits into its time, going by what it measured of some candidates.

    The row keeps the answer and the precision before the child gets it, so that a later attempt, maybe on
    another machine, computes as this one and searches as far.

    Raises:
        LeaseLost: another worker has the composition.
    """
    candidate_s = measured["seconds"] / measured["candidates"]
    fitted = work_that_fits(
        composition.base, composition.method, composition.budget, candidate_s=candidate_s, taken_s=taken_s
    )
    held = Composition.objects.held(composition.generation).filter(pk=composition.pk)
    if not held.update(
        budget_fitted=fitted.budget,
        training_fitted=fitted.training,
        precision_found=measured["precision"],
        slowness=candidate_s / usual_candidate_s(composition),
    ):
        raise leases.LeaseLost
    fitted.write(folder)


def take_in(composition: Composition, events: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The adapter before the event that tells of it, so that who reads the event finds the files."""
    for event in events:
        if event["event"] == "adapter":
            keep_adapter(composition, folder / Path(event["folder"]).name)
    store_events(composition, events)


def sweep() -> list[UUID]:
    """Free what vanished workers held; returns the jobs to queue again."""
    ScreenedLoss.objects.filter(created_at__lt=Now() - SCREENED_KEPT).delete()
    ExampleSearch.objects.filter(created_at__lt=Now() - SEARCHES_KEPT).delete()
    Attempt.objects.filter(seen_at__lt=Now() - ATTEMPTS_KEPT).delete()
    guests_sweep()
    return [*leases.sweep(Composition), *leases.sweep(ExampleSearch)]
