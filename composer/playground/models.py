"""Questions that people put to a module or a composition on its page, for a day."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from composer.models import Composition
from hub_site.jobs.models import Status
from hub_site.jobs.queues import Queue
from modules_registry.models import BaseModel, Version

KEPT = timedelta(days=1)
LEFT_AFTER = timedelta(seconds=20)  # nobody has looked for the answer: its page was closed
SILENT_AFTER = timedelta(seconds=15)  # the worker that was answering is gone
GIVEN_UP_AFTER = timedelta(minutes=2)  # in the queue
HASH_LENGTH = 64


class TryOutQuerySet(models.QuerySet["TryOut"]):
    def waiting(self) -> "TryOutQuerySet":
        """In the queue, and somebody still looks for the answer."""
        return self.filter(status=Status.QUEUED, seen_at__gt=Now() - LEFT_AFTER)

    def running(self) -> "TryOutQuerySet":
        return self.filter(status=Status.RUNNING, alive_at__gt=Now() - SILENT_AFTER)


class TryOut(models.Model):
    """One question, answered by a base model alone and with an adapter on it. Only who asked may see it.

    QUEUED -> RUNNING -> DONE | FAILED;  QUEUED -> FAILED;  RUNNING -> QUEUED (the worker was asked to end)
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    # Without an account: keyed hashes, one of the browser's session and one of the address.
    session_hash = models.CharField(max_length=HASH_LENGTH, blank=True)
    address_hash = models.CharField(max_length=HASH_LENGTH, blank=True)

    version = models.ForeignKey(Version, on_delete=models.CASCADE, null=True, blank=True)
    composition = models.ForeignKey(Composition, on_delete=models.CASCADE, null=True, blank=True)
    base = models.ForeignKey(BaseModel, on_delete=models.CASCADE)
    input = models.TextField()
    template = models.TextField()
    max_new_tokens = models.PositiveIntegerField()

    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    is_cold = models.BooleanField(default=False)  # its base had to be loaded first
    result = models.JSONField(null=True, blank=True)  # the child's event "answered"
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)  # a sentence for who asked

    created_at = models.DateTimeField(db_default=Now(), editable=False, db_index=True)
    seen_at = models.DateTimeField(db_default=Now())  # somebody asked for the answer
    started_at = models.DateTimeField(null=True, blank=True)
    alive_at = models.DateTimeField(null=True, blank=True)  # the worker was still at it
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = TryOutQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                name="tryout_of_a_version_or_a_composition",
                condition=models.Q(version=None) ^ models.Q(composition=None),
            ),
            models.CheckConstraint(
                name="tryout_of_somebody",
                condition=models.Q(owner__isnull=False) | ~models.Q(session_hash=""),
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "created_at"], name="tryout_of_owner"),
            models.Index(fields=["address_hash", "created_at"], name="tryout_of_address"),
        ]

    def __str__(self) -> str:
        return f"try-out {self.pk}"  # what was asked stays out of every log

    def get_absolute_url(self) -> str:
        return reverse("trying:tryout", args=[self.pk])

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        yield Queue("try", "Try-outs", "try", cls.objects.all(), since="created_at")

    @property
    def is_finished(self) -> bool:
        return self.status in (Status.DONE, Status.FAILED)
