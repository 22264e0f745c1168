"""What every long piece of work is: a row with a lease; an app's own job has the table. And who works."""

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from hub_site.common.models import TimeStamped
from hub_site.notifications.models import Notice

LEASE = timedelta(seconds=20)  # a worker renews it every second; a row whose worker is gone is free after it
CRASHES_MAX = 3  # a job whose child died in so many attempts in a row, none with progress, is poison
CRASH_WAITS = tuple(timedelta(seconds=s) for s in (0, 5, 30))  # before the next try, by the crashes so far
PUT_OFF_MAX = timedelta(days=1)  # a job waits so long for a fault of the site to pass, then it fails
REASON_MAX = 200  # characters
WORKER_ALIVE = timedelta(seconds=20)  # a worker announces itself every few seconds
WORKER_KNOWN = timedelta(days=1)  # one that was seen within this is expected back


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


FINISHED = (Status.DONE, Status.FAILED, Status.CANCELLED)


class JobQuerySet(models.QuerySet[Any]):
    def lost(self) -> Self:
        """Running, but the lease ran out by the database's clock: the worker is gone."""
        return self.filter(status=Status.RUNNING, lease_until__lt=Now())

    def due(self) -> Self:
        """Queued, and not put off until later."""
        return self.filter(status=Status.QUEUED, due_at__lte=Now())

    def held(self, generation: int) -> Self:
        """Still ours: every write of a worker goes through this, so that a stale one changes nothing."""
        return self.filter(status=Status.RUNNING, generation=generation)


class Job(TimeStamped):
    """One piece of work, from queued to done. The row holds the state; a message in the queue only names it.

    QUEUED -> RUNNING -> DONE | FAILED | CANCELLED;  QUEUED -> CANCELLED;  RUNNING -> QUEUED (handed back)
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED, db_index=True)
    worker = models.CharField(max_length=120, blank=True)  # who holds the lease, or let it run out
    lease_until = models.DateTimeField(null=True, blank=True)
    generation = models.PositiveIntegerField(default=0)  # raised by every claim; fences every later write
    has_advanced = models.BooleanField(default=False)  # the last attempt stored what a later one keeps
    crashes = models.PositiveSmallIntegerField(
        default=0
    )  # attempts in a row whose child died, without progress
    due_at = models.DateTimeField(db_default=Now())  # not to be claimed before
    put_off_since = models.DateTimeField(null=True, blank=True)  # stopped by a fault of the site
    put_off_reason = models.CharField(max_length=REASON_MAX, blank=True)  # a sentence for the page's reader
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # queued, or written to, last
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)  # a sentence for the page's reader
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    taken_over_from = ""  # of a claimed job: the worker that let its lease run out

    objects = JobQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def is_done(self) -> bool:
        return self.status == Status.DONE

    def notice(self) -> Notice | None:
        """What its owner is told once it is done or has failed; None: nothing."""
        return None


class JobEvent(models.Model):
    """One thing a job told, numbered from 1 within its job. A subclass adds the foreign key `job`."""

    number = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now(), editable=False)
    generation = models.PositiveIntegerField()
    kind = models.CharField(max_length=20)  # "stage", "step", …
    detail = models.JSONField(default=dict)

    class Meta:
        abstract = True
        ordering: ClassVar[list[str]] = ["number"]


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        return self.filter(seen_at__gte=Now() - WORKER_ALIVE)

    def known(self) -> Self:
        """Alive, or expected back."""
        return self.filter(seen_at__gte=Now() - WORKER_KNOWN)

    def able(self, *, has_cuda: bool, memory_mb: int) -> Self:
        """Those that have what a job needs."""
        fitting = self.filter(memory_mb__gte=memory_mb)
        return fitting.filter(has_cuda=True) if has_cuda else fitting


class Worker(models.Model):
    """A worker process, as it announces itself: what it has, and when it was seen last."""

    name = models.CharField(max_length=120, unique=True)  # host and process id
    queue = models.CharField(max_length=20)
    slots = models.PositiveIntegerField()  # jobs that it does at once
    memory_mb = models.PositiveIntegerField()  # that one job may use
    has_cuda = models.BooleanField()
    seen_at = models.DateTimeField(db_default=Now())

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.queue} worker {self.name}"


class JobRequest(models.Model):
    """Which request asked for a job: its id, as the log has it. Kept for a month."""

    job_id = models.UUIDField(primary_key=True, editable=False)  # of any kind of job
    request_id = models.CharField(max_length=64)
    at = models.DateTimeField(db_default=Now(), editable=False, db_index=True)

    def __str__(self) -> str:
        return f"request {self.request_id} of job {self.job_id}"


class JobCount(models.Model):
    """How many attempts at jobs of a kind ended so, since the site began. Jobs themselves may be deleted."""

    kind = models.CharField(max_length=40)  # of the model: "composition"
    outcome = models.CharField(max_length=20)  # a Status, "put_off", "crashed" or "lost"
    code = models.CharField(max_length=60, blank=True)  # of the error or the fault
    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "outcome", "code"], name="job_count_once"),
        ]

    def __str__(self) -> str:
        return f"{self.number} × {self.kind} {self.outcome} {self.code}"


class StageTime(models.Model):
    """How many stages of finished jobs took at most so long, and longer than the next smaller limit."""

    kind = models.CharField(max_length=40)
    stage = models.CharField(max_length=20)
    most_s = models.FloatField()  # one of tallies.STAGE_LIMITS_S
    number = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)  # of all of them together

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "stage", "most_s"], name="stage_time_once"),
        ]

    def __str__(self) -> str:
        return f"{self.number} × {self.kind} {self.stage} ≤ {self.most_s} s"


class LowDisk(models.Model):
    """The disk of a machine is nearly full, since then. The row goes when there is space again."""

    machine = models.CharField(max_length=120, unique=True)
    since = models.DateTimeField(db_default=Now())
    mailed_at = models.DateTimeField(null=True, blank=True)  # to staff

    class Meta:
        ordering = ["-since"]

    def __str__(self) -> str:
        return f"low disk of {self.machine}"


class WorkerRequest(models.Model):
    """Somebody wants a worker of a kind that the site has not. Staff see it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    has_cuda = models.BooleanField()
    memory_mb = models.PositiveIntegerField()  # that one job needs
    base_name = models.CharField(max_length=200)
    asked_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-asked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "has_cuda", "base_name"], name="worker_request_once_per_kind"
            ),
        ]

    def __str__(self) -> str:
        card = "with a GPU, " if self.has_cuda else ""
        return f"a worker {card}{self.memory_mb} MB, for {self.base_name}"
