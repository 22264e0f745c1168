"""How the site's work stands: reads only, for the page, the API, the metrics and the doctor alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import CharField, Count, Max, Min, Q, QuerySet, Sum, Value
from django.db.models.functions import Now

from composer.timing.estimates import duration_words
from hub_site.common.clock import database_now
from hub_site.jobs.models import Job, JobRequest, Status, Worker
from hub_site.jobs.queues import Queue, all_queues
from hub_site.jobs.roles import SCHEDULER

FAILED_SHOWN = PUT_OFF_SHOWN = 50
FAILED_SINCE = timedelta(days=7)
Rows = QuerySet[Any, Any]
SERVED = ("compose", "default", "transfer", "try", SCHEDULER)  # a site without one of them lacks something


@dataclass(frozen=True)
class QueueState:
    """One queue at this moment."""

    name: str
    label: str
    served_by: str
    waiting: int  # due now
    put_off: int  # due later
    running: int
    oldest_wait_s: float  # of those that are due; 0 where none waits

    @property
    def oldest_wait_text(self) -> str:
        return duration_words(self.oldest_wait_s, self.oldest_wait_s) if self.waiting else ""


@dataclass(frozen=True)
class WorkerState:
    """The workers of one queue of Celery that announced themselves a moment ago."""

    queue: str
    workers: int
    places: int  # jobs that they do at once


@dataclass(frozen=True)
class FailedJob:
    """A job that failed: as its owner was told, and where to look in the log."""

    job_id: UUID
    queue: str
    label: str
    at: datetime
    code: str
    message: str
    request_id: str  # empty: not known


@dataclass(frozen=True)
class PutOffJob:
    """A job that is due later, and the fault that it waits for."""

    job_id: UUID
    queue: str
    label: str
    since: datetime | None  # None: not for a fault of the site
    due_at: datetime
    reason: str  # as its owner is told; may be empty
    request_id: str  # empty: not known


@dataclass(frozen=True)
class FailureCount:
    """Failed jobs of one queue with one code."""

    queue: str
    label: str
    code: str
    number: int
    last_at: datetime


def queue_states() -> list[QueueState]:
    """Every queue, in the order of the apps; one query for all."""
    queues, now = all_queues(), database_now()
    rows = {row["queue"]: row for row in union([state_rows(queue) for queue in queues])}
    return [queue_state(queue, rows.get(queue.name, {}), now) for queue in queues]


def state_rows(queue: Queue) -> Rows:
    is_queued = Q(status=Status.QUEUED)
    is_due = is_queued & Q(**{f"{queue.since}__lte": Now()})
    rows = queue.rows.order_by().filter(status__in=(Status.QUEUED, Status.RUNNING))
    named = rows.annotate(queue=Value(queue.name, output_field=CharField()))
    states: Rows = named.values("queue").annotate(
        waiting=Count("pk", filter=is_due),
        put_off=Count("pk", filter=is_queued & ~is_due),
        running=Count("pk", filter=Q(status=Status.RUNNING)),
        since=Min(queue.since, filter=is_due),
    )
    return states


def queue_state(queue: Queue, row: dict[str, Any], now: datetime) -> QueueState:
    since = row.get("since")
    return QueueState(
        name=queue.name,
        label=queue.label,
        served_by=queue.served_by,
        waiting=row.get("waiting", 0),
        put_off=row.get("put_off", 0),
        running=row.get("running", 0),
        oldest_wait_s=max(0.0, (now - since).total_seconds()) if since else 0.0,
    )


def worker_states() -> list[WorkerState]:
    """Those of SERVED, also where there is none, and whatever else announced itself."""
    alive = Worker.objects.alive().order_by().values("queue")
    found = {row["queue"]: row for row in alive.annotate(workers=Count("pk"), places=Sum("slots"))}
    states = []
    for queue in sorted({*SERVED, *found}):
        row = found.get(queue, {"workers": 0, "places": 0})
        states.append(WorkerState(queue, row["workers"], row["places"]))
    return states


def failure_counts() -> list[FailureCount]:
    """Failures of the last days by queue and code, the most frequent first."""
    queues = {queue.name: queue for queue in all_queues()}
    rows = union([counted(queue) for queue in queues.values()])
    found = [
        FailureCount(
            row["queue"], queues[row["queue"]].label, row["error_code"], row["number"], row["last_at"]
        )
        for row in rows
    ]
    return sorted(found, key=lambda count: (-count.number, count.queue, count.code))


def counted(queue: Queue) -> Rows:
    rows: Rows = failed_rows(queue).values("queue", "error_code")
    counts: Rows = rows.annotate(number=Count("pk"), last_at=Max("finished_at"))
    return counts


def failed_rows(queue: Queue) -> Rows:
    failed = queue.rows.order_by().filter(status=Status.FAILED, finished_at__gte=Now() - FAILED_SINCE)
    named: Rows = failed.annotate(queue=Value(queue.name, output_field=CharField()))
    return named


def failed_jobs() -> list[FailedJob]:
    """The newest of the last days, whatever kind."""
    queues = {queue.name: queue for queue in all_queues()}
    columns = ("pk", "queue", "finished_at", "error_code", "error_message")
    parts = [failed_rows(queue).values_list(*columns) for queue in queues.values()]
    rows = list(union(parts).order_by("-finished_at")[:FAILED_SHOWN])
    requests = requests_of(row[0] for row in rows)
    return [
        FailedJob(job_id, queue, queues[queue].label, at, code, message, requests.get(job_id, ""))
        for job_id, queue, at, code, message in rows
    ]


def put_off_jobs() -> list[PutOffJob]:
    """Those that are due next, whatever kind: the jobs that `put_off` of the queues counts."""
    queues = {queue.name: queue for queue in all_queues() if issubclass(queue.rows.model, Job)}
    columns = ("pk", "queue", "put_off_since", "due_at", "put_off_reason", "error_message")
    parts = []
    for queue in queues.values():
        put_off = queue.rows.order_by().filter(status=Status.QUEUED, due_at__gt=Now())
        named = put_off.annotate(queue=Value(queue.name, output_field=CharField()))
        parts.append(named.values_list(*columns))
    rows = list(union(parts).order_by("due_at")[:PUT_OFF_SHOWN])
    requests = requests_of(row[0] for row in rows)
    return [
        PutOffJob(
            job_id, queue, queues[queue].label, since, due_at, reason or message, requests.get(job_id, "")
        )
        for job_id, queue, since, due_at, reason, message in rows
    ]


def requests_of(job_ids: Iterable[UUID]) -> dict[UUID, str]:
    return dict(JobRequest.objects.filter(pk__in=list(job_ids)).values_list("job_id", "request_id"))


def union(parts: Sequence[Rows]) -> Rows:
    first, *others = parts
    return first.union(*others, all=True) if others else first
