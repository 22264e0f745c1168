"""What every long piece of work is: a row with a lease. Abstract only: an app's own job has the table."""

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models.functions import Now

from hub_site.common.models import TimeStamped

LEASE = timedelta(seconds=20)  # a worker renews it every second; a row whose worker is gone is free after it
CRASHES_MAX = 3  # a job that was broken off this often without progress is poison
PUT_OFF_MAX = timedelta(days=1)  # a job waits so long for a fault of the site to pass, then it fails
REASON_MAX = 200  # characters


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

    def claimable(self) -> Self:
        """Queued, or lost; not those which the sweeper will close: unwanted ones, and poison."""
        queued = models.Q(status=Status.QUEUED)
        lost = models.Q(status=Status.RUNNING, lease_until__lt=Now())
        return self.filter(queued | lost & models.Q(cancel_requested=False, crashes__lt=CRASHES_MAX - 1))

    def held(self, generation: int) -> Self:
        """Still ours: every write of a worker goes through this, so that a stale one changes nothing."""
        return self.filter(status=Status.RUNNING, generation=generation)


class Job(TimeStamped):
    """One piece of work, from queued to done. The row holds the state; a message in the queue only names it.

    QUEUED -> RUNNING -> DONE | FAILED | CANCELLED;  QUEUED -> CANCELLED;  RUNNING -> RUNNING (a new lease)
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED, db_index=True)
    worker = models.CharField(max_length=120, blank=True)  # who holds the lease
    lease_until = models.DateTimeField(null=True, blank=True)
    generation = models.PositiveIntegerField(default=0)  # raised by every claim; fences every later write
    crashes = models.PositiveSmallIntegerField(default=0)  # deaths of its children and workers since progress
    put_off_since = models.DateTimeField(null=True, blank=True)  # stopped by a fault of the site
    put_off_reason = models.CharField(max_length=REASON_MAX, blank=True)  # a sentence for the page's reader
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)  # a sentence for the page's reader
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def is_done(self) -> bool:
        return self.status == Status.DONE


class JobEvent(models.Model):
    """One thing a job told, numbered from 1 within its job. A subclass adds the foreign key `job`."""

    number = models.PositiveIntegerField()
    at = models.DateTimeField(auto_now_add=True)
    generation = models.PositiveIntegerField()
    kind = models.CharField(max_length=20)  # "stage", "step", …
    detail = models.JSONField(default=dict)

    class Meta:
        abstract = True
        ordering: ClassVar[list[str]] = ["number"]
