"""Claim, renew, finish, sweep: how a worker holds a job, and how the job survives the worker.

Every function takes the job's model or row and works by one UPDATE that filters on status and
generation, so that of two workers exactly one writes, and a worker that stopped past its lease
writes to no row at all. All times are the database's, so that no machine's clock matters.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Case, DurationField, ExpressionWrapper, F, Max, QuerySet, Value, When
from django.db.models.functions import Coalesce, Greatest, Least, Now

from hub_site.common.os_faults import MACHINE_FAULT
from hub_site.common.site_faults import SENTENCES
from hub_site.jobs.models import (
    CRASH_WAITS,
    CRASHES_MAX,
    LEASE,
    PUT_OFF_MAX,
    REASON_MAX,
    Job,
    JobEvent,
    Status,
)
from hub_site.jobs.requests import request_of
from hub_site.jobs.tallies import count_ends
from hub_site.logs import belongs_to
from hub_site.notifications.services import notify

logger = logging.getLogger(__name__)
JobType = TypeVar("JobType", bound=Job)

PUT_OFF, CRASHED, LOST = "put_off", "crashed", "lost"  # how an attempt ends after which the job goes on
CLAIM_TRIES = 5  # jobs at the head of the queue; other workers may take one while we look
REQUEUE_AFTER = timedelta(minutes=1)  # a job that waits longer is queued again: its message may be lost
# Columns to write with anything that a later attempt keeps.
PROGRESS = {"has_advanced": True, "crashes": 0, "put_off_since": None}
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=10)  # for a fault of the site to pass
WAITED = ExpressionWrapper(Now() - Coalesce("put_off_since", Now()), output_field=DurationField())
# As long again as it has waited since its last progress.
NEXT_WAIT = Least(Greatest(WAITED, Value(FIRST_WAIT)), Value(LONGEST_WAIT))
# What ended the attempt is gone with it: the first time another worker or launcher goes on at once.
AT_ONCE_FIRST = Case(When(put_off_since=None, then=Value(timedelta(0))), default=NEXT_WAIT)
POISON_MESSAGE = (
    f"The work broke down {CRASHES_MAX} times, so we stopped trying. "
    "Try fewer modules or a smaller budget; if it breaks again, tell the site's operator this address."
)


class LeaseLost(Exception):
    """Another worker holds the job, or it was cancelled or finished: stop, and write nothing more."""


def claim(model: type[JobType], job_id: UUID, *, worker: str) -> JobType | None:
    """Take the lease. None if another worker has it, if it is not due, or if nothing is left to do.

    A job whose worker vanished is queued again by the sweep first.
    """
    now = Now()
    due = model.objects.due().filter(pk=job_id)
    before = due.values_list("worker", flat=True).first()
    taken = due.update(
        status=Status.RUNNING,
        worker=worker,
        generation=F("generation") + 1,
        has_advanced=False,
        lease_until=now + LEASE,
        updated_at=now,
        put_off_reason="",
        started_at=Coalesce("started_at", now),
    )
    if not taken:
        return None
    job = cast(JobType, model.objects.get(pk=job_id))
    job.taken_over_from = before or ""
    return job


def claim_first(rows: "QuerySet[JobType]", *, worker: str) -> JobType | None:
    """Take the lease of the first of these rows that no other worker takes; None if there is none."""
    for job_id in rows.values_list("pk", flat=True)[:CLAIM_TRIES]:
        if job := claim(rows.model, job_id, worker=worker):
            return job
    return None


def renew_lease(job: Job) -> bool:
    """Prolong the lease; returns whether the owner asked to cancel. Raises LeaseLost."""
    held = type(job).objects.held(job.generation).filter(pk=job.pk)
    if not held.update(lease_until=Now() + LEASE):
        raise LeaseLost
    return type(job).objects.filter(pk=job.pk, cancel_requested=True).exists()


@transaction.atomic
def append_events(job: Job, events: Sequence[JobEvent], *, progress: dict[str, Any] | None = None) -> None:
    """Store events in order, numbered on from the last one, with the row's own progress fields.

    Raises LeaseLost, and then nothing is stored.
    """
    held = type(job).objects.held(job.generation).filter(pk=job.pk)
    if not held.update(lease_until=Now() + LEASE, **(progress or {})):
        raise LeaseLost
    if not events:
        return
    model: Any = type(events[0])  # has the foreign key that the abstract row lacks
    last = model._default_manager.filter(job=job).aggregate(last=Max("number"))["last"] or 0
    for number, event in enumerate(events, start=last + 1):
        event.number, event.generation = number, job.generation
        event.job = job  # type: ignore[attr-defined]
    model._default_manager.bulk_create(events)


@transaction.atomic
def finish(job: Job, status: Status, **fields: Any) -> None:
    """Close the job, only while it is still ours, and set the object's fields too. Raises LeaseLost.

    Its owner is told in the same transaction, unless it was cancelled.
    """
    now = Now()
    held = type(job).objects.held(job.generation).filter(pk=job.pk)
    if not held.update(status=status, lease_until=None, finished_at=now, updated_at=now, **fields):
        raise LeaseLost
    for name, value in {"status": status, **fields}.items():
        setattr(job, name, value)
    count_ends(type(job), status, fields.get("error_code", ""))
    tell_owners([job])
    if status == Status.FAILED:
        log_failure(type(job), job.pk, job.worker, **fields)
    else:
        said = f"{type(job).__name__} {job.pk} {status} by worker {job.worker}"
        transaction.on_commit(lambda: logger.info(said), robust=True)


def tell_owners(jobs: Iterable[Job]) -> None:
    """Tell those whose jobs are done or have failed."""
    ended = [job.notice() for job in jobs if job.status in (Status.DONE, Status.FAILED)]
    notify(notice for notice in ended if notice is not None)


def log_failure(
    model: type[Job], job_id: UUID, worker: str, *, error_code: str = "", error_message: str = "", **_: Any
) -> None:
    """Every job that fails is in the log by its id, with its worker, its code and what was missing."""
    said = "%s %s failed: %s: %s (worker %s)"
    logger.warning(said, model.__name__, job_id, error_code, error_message, worker)


def hand_back(job: Job, *, delay_s: float = 0, **fields: Any) -> None:
    """Give the job back, to be queued again after the delay; harmless if it is no longer ours."""
    now = Now()
    type(job).objects.held(job.generation).filter(pk=job.pk).update(
        status=Status.QUEUED,
        lease_until=None,
        worker="",
        due_at=now + timedelta(seconds=delay_s),
        updated_at=now - REQUEUE_AFTER,  # queue as soon as it is due
        **fields,
    )


def put_off(job: Job, *, code: str, reason: str) -> bool:
    """Hand the job back for a fault of the site; returns True if it waited PUT_OFF_MAX and was failed for it.

    It waits as long again as it has waited since its last progress, within FIRST_WAIT and LONGEST_WAIT. After
    the first fault of a machine it is due at once, and so keeps its turn.

    Args:
        reason: the fault, as a sentence for the page's reader.
    """
    held = type(job).objects.held(job.generation).filter(pk=job.pk)
    waits = {"waited": WAITED, "wait": AT_ONCE_FIRST if code == MACHINE_FAULT else NEXT_WAIT}
    found = held.annotate(**waits).values_list("waited", "wait").first()
    if found is None:
        raise LeaseLost
    waited, wait = found
    if waited >= PUT_OFF_MAX:
        finish(job, Status.FAILED, **waited_too_long(code, reason))
        return True
    held.filter(put_off_since=None).update(put_off_since=Now())
    count_ends(type(job), PUT_OFF, code)
    hand_back(job, delay_s=wait.total_seconds(), put_off_reason=reason[:REASON_MAX])
    return False


def waited_too_long(code: str, reason: str) -> dict[str, str]:
    """Return the columns that tell why a job which waited PUT_OFF_MAX failed."""
    message = f"{reason} It did not pass within a day, so this site stopped trying. Start it again."
    return {"error_code": code, "error_message": message}


def count_crash(job: Job) -> bool:
    """Count a child that died, unless the attempt had advanced: then the next death is the first again.

    The next try waits longer after each death, so that deaths with one short cause are not taken for poison.

    Returns True when the job is poison and was failed for it.
    """
    held = type(job).objects.held(job.generation).filter(pk=job.pk)
    if not held.update(crashes=F("crashes") + Case(When(has_advanced=False, then=1), default=0)):
        raise LeaseLost
    count_ends(type(job), CRASHED)
    job.refresh_from_db(fields=["crashes"])
    if job.crashes < CRASHES_MAX:
        hand_back(job, delay_s=CRASH_WAITS[job.crashes].total_seconds())
        return False
    finish(job, Status.FAILED, error_code="poison", error_message=POISON_MESSAGE)
    return True


def cancel(model: type[JobType], job_id: UUID) -> None:
    """Ask for the end: a queued job is cancelled at once, a running one by its worker's next beat."""
    now = Now()
    queued = model.objects.filter(pk=job_id, status=Status.QUEUED)
    if queued.update(status=Status.CANCELLED, cancel_requested=True, finished_at=now, updated_at=now):
        count_ends(model, Status.CANCELLED)
        logger.info("%s %s cancelled before a worker had it", model.__name__, job_id)
    else:
        model.objects.filter(pk=job_id, status=Status.RUNNING).update(cancel_requested=True, updated_at=now)


@transaction.atomic
def sweep(model: type[JobType]) -> list[UUID]:
    """Put jobs whose worker vanished back in the queue; return every job to queue again.

    A vanished worker is a fault of the machine and no crash of the job: at first the job is due at once, then
    it waits as `put_off` says. A row that somebody else is writing to is left to the next round.
    """
    now = Now()
    free = model.objects.lost().select_for_update(skip_locked=True, of=("self",))
    lost = model.objects.lost().filter(pk__in=list(free.values_list("pk", flat=True)))
    closed: dict[str, Any] = {"lease_until": None, "finished_at": now, "updated_at": now}
    cancelled = lost.filter(cancel_requested=True).update(status=Status.CANCELLED, **closed)
    count_ends(model, Status.CANCELLED, number=cancelled)
    reason = SENTENCES[MACHINE_FAULT]
    given_up, why = lost.filter(put_off_since__lte=now - PUT_OFF_MAX), waited_too_long(MACHINE_FAULT, reason)
    given_up_workers = dict(given_up.values_list("pk", "worker"))
    for job_id, worker in given_up_workers.items():
        with belongs_to(request=request_of(job_id), job=f"{model.__name__} {job_id}"):
            log_failure(model, job_id, worker, **why)
    failed = given_up.update(status=Status.FAILED, **why, **closed)
    count_ends(model, Status.FAILED, MACHINE_FAULT, number=failed)
    tell_owners(model.objects.filter(pk__in=given_up_workers))
    for job_id, worker in lost.values_list("pk", "worker"):
        with belongs_to(request=request_of(job_id), job=f"{model.__name__} {job_id}"):
            logger.info("%s %s queued again: the lease of worker %s ran out", model.__name__, job_id, worker)
    handed_back = lost.update(
        status=Status.QUEUED,
        generation=F("generation") + 1,
        lease_until=None,
        due_at=now + AT_ONCE_FIRST,
        put_off_since=Coalesce("put_off_since", now),
        put_off_reason=reason,
        updated_at=now - REQUEUE_AFTER,  # queue as soon as it is due
    )
    count_ends(model, LOST, number=handed_back)
    waiting = model.objects.due().filter(updated_at__lte=now - REQUEUE_AFTER)
    waiting = waiting.select_for_update(skip_locked=True, of=("self",))
    ids = list(waiting.values_list("pk", flat=True))
    model.objects.filter(pk__in=ids).update(updated_at=now)
    return ids
