"""The example report: the site composes for a ready-made task itself, once for each release.

Everybody reads it by the same private link as any shared report; the page `composer:example` finds that link.
"""

import logging
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now

from composer.core.spec.choices import (
    BASELINES_OF_LEVEL,
    DEFAULT_LEVEL,
    DEFAULT_METHOD,
    DEFAULT_SEED,
    level_budget,
)
from composer.models import Composition, ShareLink
from composer.request.services import composition_request
from composer.services import composition_delete
from composer.share.services import share_of, share_renew
from composer.task.demo_tasks import DemoTask, demo_task
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel

log = logging.getLogger(__name__)
OWNER = "demo"  # whose the modules of the ready-made libraries are
KEY = "example:"  # how the idempotency key of an example report begins
TASKS = ("en-past-quotes", "fruit-upper")  # the first whose base model is in the library
TRIED_AGAIN_AFTER = timedelta(hours=6)  # one that failed


def example_link() -> ShareLink | None:
    """The link to the example report that was finished last; None while there is none."""
    return example_links().first()


def example_links() -> "QuerySet[ShareLink]":
    """The links to example reports that lead somewhere, the last one first."""
    standing = ShareLink.objects.filter(
        composition__in=examples_made().filter(status=Status.DONE, sharing_blocked="", owner__is_active=True),
        expires_at=None,
    )
    return standing.select_related("composition__base", "composition__owner").order_by(
        "-composition__finished_at"
    )


def examples_made() -> QuerySet[Composition]:
    return Composition.objects.filter(owner__username=OWNER, idempotency_key__startswith=KEY)


def example_keep() -> None:
    """Ask for this release's example report where there is none, and share it once it is done.

    Harmless as often as it is called. Those of earlier releases are deleted when it is there.
    """
    if settings.HUB_EXAMPLE_REPORT == "no":
        return
    task = example_task()
    owner = User.objects.filter(username=OWNER, is_active=True).first()
    if task is None or owner is None:
        return
    key = f"{KEY}{release()}:{task.name}"
    made = examples_made().filter(idempotency_key=key).defer("report").first()
    try:
        if made is None:
            example_request(owner, task, key)
        elif made.is_done:
            example_share(owner, made)
        elif made.is_finished:
            forget_failed(owner, made)
    except Refusal as refusal:  # the site is full or blocked: the next call tries again
        log.info("no example report yet: %s", refusal.message)


def example_task() -> DemoTask | None:
    """The ready-made task of the example report; None where the library has no base model for any."""
    tasks = [task for name in TASKS if (task := demo_task(name))]
    bases = set(
        BaseModel.objects.filter(name__in={task.base for task in tasks}).values_list("name", flat=True)
    )
    return next((task for task in tasks if task.base in bases), None)


def example_request(owner: User, task: DemoTask, key: str) -> Composition:
    return composition_request(
        owner=owner,
        name=task.name,
        sentence=task.sentence,
        base=task.base,
        selection="auto",
        level=DEFAULT_LEVEL,
        examples=task.shots,
        held_out=task.held_out,
        idempotency_key=key,
        method=DEFAULT_METHOD,
        budget=level_budget(DEFAULT_LEVEL, DEFAULT_METHOD),
        baselines=BASELINES_OF_LEVEL[DEFAULT_LEVEL],
        seed=DEFAULT_SEED,
    )


def example_share(owner: User, made: Composition) -> None:
    if share_of(made) is None:
        share_renew(owner=owner, composition_id=made.pk)
    earlier = examples_made().exclude(pk=made.pk).exclude(status__in=(Status.QUEUED, Status.RUNNING))
    for composition_id in earlier.values_list("pk", flat=True):
        composition_delete(owner=owner, composition_id=composition_id)


def forget_failed(owner: User, made: Composition) -> None:
    """Delete one that failed or was cancelled some hours ago, so that the next call asks for it anew."""
    if Composition.objects.filter(pk=made.pk, finished_at__lt=Now() - TRIED_AGAIN_AFTER).exists():
        composition_delete(owner=owner, composition_id=made.pk)


def release() -> str:
    """The version of the site's code; “unreleased” where it was not installed as a package."""
    try:
        return version("lora-hub")
    except PackageNotFoundError:
        return "unreleased"
