"""Which request asked for a job: noted when its row is made, and read by the worker that takes it."""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.db.models.signals import post_save

from hub_site.jobs.models import JobRequest
from hub_site.jobs.queues import queued_models
from hub_site.logs import request_id

logger = logging.getLogger(__name__)
KEPT = timedelta(days=30)


def note_request(instance: Any, created: bool, raw: bool = False, **_: object) -> None:
    """Django's signal: a row was saved."""
    if not created or raw:
        return
    if request_id.get():
        JobRequest.objects.get_or_create(job_id=instance.pk, defaults={"request_id": request_id.get()})
    said = f"{type(instance).__name__} {instance.pk} accepted"
    transaction.on_commit(lambda: logger.info(said), robust=True)


def note_requests_of_jobs() -> None:
    """Note it from now on for every model whose rows wait in a queue."""
    for model in queued_models():
        post_save.connect(note_request, sender=model, dispatch_uid=f"request of {model._meta.label}")


def request_of(job_id: UUID) -> str:
    """The id of the request that asked for the job; empty if it is not known."""
    return JobRequest.objects.filter(pk=job_id).values_list("request_id", flat=True).first() or ""


def forget_old_requests() -> None:
    JobRequest.objects.filter(at__lt=Now() - KEPT).delete()
