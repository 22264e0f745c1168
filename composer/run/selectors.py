"""What a worker reads before a run: the record of earlier attempts, notification mail that is due."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from composer.core.spec.examples import Example, example_sha256
from composer.models import Composition, ScreenedLoss
from composer.selectors import few_shot_examples
from hub_site.jobs.models import Status

MAIL_ON_STATUS = (Status.DONE, Status.FAILED)  # who cancels it knows


MAIL_WITHIN = timedelta(days=1)


def mails_due() -> list[UUID]:
    """Those whose owner wants a mail that was not sent. After a day it is too late to be of use."""
    due = Composition.objects.filter(
        mail_when_done=True, mailed_at=None, status__in=MAIL_ON_STATUS, finished_at__gt=Now() - MAIL_WITHIN
    )
    return list(due.values_list("pk", flat=True))


def search_record(composition: Composition) -> Iterator[dict[str, Any]]:
    """The steps and states that earlier attempts at it told, as the core's events."""
    for detail in composition.events.filter(kind="step").values_list("detail", flat=True).iterator():
        yield {"event": "step", **detail}
    yield from composition.states.values_list("state", flat=True).iterator()


def screened_before(composition: Composition) -> Iterator[dict[str, Any]]:
    """What is known of its modules alone on its examples, as the core's events."""
    modules = composition.modules.values_list("version__weights_sha256", flat=True)
    return screened_losses(few_shot_examples(composition), list(modules), composition.owner)


def screened_losses(
    examples: Sequence[Example], modules: Sequence[str], owner: object
) -> Iterator[dict[str, Any]]:
    """What this account may know of modules alone on examples, as the core's events.

    Args:
        modules: the hashes of their weights.
    """
    rows = ScreenedLoss.objects.known_to(owner).filter(
        example_sha256__in=[example_sha256(example) for example in examples], module_sha256__in=modules
    )
    rows = rows.order_by("context", "module_sha256")
    for (context, module), losses in groupby(rows.iterator(), attrgetter("context", "module_sha256")):
        nats = {row.example_sha256: row.nats for row in losses}
        yield {"event": "screened", "context": context, "module": module, "nats": nats}
