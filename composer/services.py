"""Asking for a composition, stopping or cancelling one, forgetting one."""

from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from composer import selectors
from composer.models import Composition
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from modules_registry.blobs import delete_unnamed_blobs


def composition_cancel(*, owner: User, composition_id: UUID) -> Composition:
    """Ask for the end of it; a finished one stays as it is."""
    composition = require_own(owner, composition_id)
    leases.cancel(Composition, composition.pk)
    composition.refresh_from_db()
    return composition


def composition_stop(*, owner: User, composition_id: UUID) -> Composition:
    """Ask a search to end with the best it has found; harmless twice, and after the search.

    One that was begun and waits again, as after a fault of the site, ends so in its next attempt.
    """
    composition = require_own(owner, composition_id)
    begun = Composition.objects.filter(
        pk=composition.pk, status__in=(Status.QUEUED, Status.RUNNING), started_at__isnull=False
    )
    if not begun.update(stop_requested=True) and not composition.is_finished:
        message = "It has not begun, so there is nothing to keep yet. Wait until it runs, or cancel it."
        raise Refusal("not_running", message, status=409)
    composition.refresh_from_db()
    return composition


def composition_notify(*, owner: User, composition_id: UUID, wanted: bool) -> Composition:
    """Set whether its owner gets a notification mail when it is done or failed; harmless twice."""
    composition = require_own(owner, composition_id)
    if wanted:
        require_mail_reaches(owner)
    unfinished = Composition.objects.filter(pk=composition.pk, status__in=(Status.QUEUED, Status.RUNNING))
    if not unfinished.update(mail_when_done=wanted) and composition.mail_when_done != wanted:
        raise Refusal("finished", "It has finished already, so no mail will be sent.", status=409)
    composition.refresh_from_db()
    return composition


def require_mail_reaches(owner: User) -> None:
    if not settings.MAIL_SERVER:
        message = "This site has no mail server. You find the result under Notifications."
        raise Refusal("no_mail_server", message, status=409)
    if not owner.email:
        message = "Your account has no e-mail address. Add one under Account, then ask again."
        raise Refusal("no_address", message, status=409)


@transaction.atomic
def composition_delete(*, owner: User, composition_id: UUID) -> None:
    """Forget a finished composition with its examples and its adapter."""
    composition = require_own(owner, composition_id)
    if not composition.is_finished:
        message = "It is still waiting or running. Cancel it first, then delete it."
        raise Refusal("still_running", message, status=409)
    hashes = set(composition.files.values_list("sha256", flat=True))
    composition.delete()
    transaction.on_commit(partial(delete_unnamed_blobs, hashes))


@transaction.atomic
def compositions_end(rows: QuerySet[Composition], *, code: str, message: str) -> None:
    """End what is queued or runs among these rows, for a reason that is not their owners'."""
    unfinished = rows.filter(status__in=(Status.QUEUED, Status.RUNNING))
    ids = list(unfinished.values_list("pk", flat=True))
    Composition.objects.filter(pk__in=ids).update(error_code=code, error_message=message)
    for composition_id in ids:
        leases.cancel(Composition, composition_id)


def require_own(owner: User, composition_id: UUID) -> Composition:
    composition = selectors.composition_find(owner, composition_id)
    if composition is None:
        raise Refusal("not_found", "No such composition of yours.", status=404)
    return composition
