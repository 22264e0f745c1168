"""What a visitor composes without an account: small, seldom, and kept for a day as a guest's."""

from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from composer.core.spec.counting import count_noun
from composer.models import Attempt, Composition, Draft, ResultFile
from hub_site.accounts.guests import KEPT
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from modules_registry.blobs import delete_unnamed_blobs

UNFINISHED_MAX = 10  # of all guests together
SWEPT_AT_ONCE = 200
RETRY_S = 60
UNFINISHED = (Status.QUEUED, Status.RUNNING)
SIGN_UP = "Sign up for an account to go on: what you typed is kept."


def visitors_may_compose() -> bool:
    return settings.HUB_VISITORS_COMPOSE_A_DAY > 0


def require_guest_quota(guest: User) -> None:
    """Refuse what a guest may not ask for now.

    An address is counted by what was computed for it within a day, whatever was deleted since, and by what
    waits.
    """
    waiting = Composition.objects.filter(owner__guest_until__isnull=False, status__in=UNFINISHED)
    if waiting.filter(owner=guest).exists():
        message = f"Your composition is not finished yet. Wait for it, or cancel it. {SIGN_UP}"
        raise Refusal("too_many_running", message, status=429, retry_after_s=RETRY_S)
    of_address = {"owner__guest_address": guest.guest_address}
    computed = Attempt.objects.filter(**of_address, began_at__gt=Now() - KEPT)
    asked = {
        *computed.values_list("composition_id", flat=True),
        *waiting.filter(**of_address).values_list("pk", flat=True),
    }
    most = settings.HUB_VISITORS_COMPOSE_A_DAY
    if len(asked) >= most:
        times = count_noun(most, "time")
        message = f"Visitors from your address have composed {times} within a day, the most here. {SIGN_UP}"
        raise Refusal("too_often", message, status=429, retry_after_s=round(KEPT.total_seconds()))
    if waiting.count() >= UNFINISHED_MAX:
        message = f"Busy: {UNFINISHED_MAX} visitors wait already. Try again in a minute. {SIGN_UP}"
        raise Refusal("busy", message, status=503, retry_after_s=RETRY_S)


def require_quick(composition: Composition) -> None:
    """Refuse a guest's composition that is not estimated to be quick."""
    if composition.is_quick:
        return
    message = (
        f"Without an account a composition may take {settings.HUB_COMPOSE_QUICK_S} seconds, and this one is "
        f"likely to take longer. Choose the search effort “quick” or fewer examples. {SIGN_UP}"
    )
    raise Refusal("sign_in_first", message, status=403, fields={"level": [message]})


@transaction.atomic
def guest_adopt(*, guest: User, user: User) -> None:
    """Give what a guest has made to an account that the same browser has signed in to.

    The guest's row stays until its day is over: a worker may still write for it.
    """
    for model in (Composition, Draft, Attempt):
        model._default_manager.filter(owner=guest).update(owner=user)


@transaction.atomic
def guests_sweep() -> None:
    """Delete the guests whose day is over, with all that they made; what still runs is cancelled first."""
    over = list(User.objects.filter(guest_until__lte=Now()).values_list("pk", flat=True)[:SWEPT_AT_ONCE])
    unfinished = list(Composition.objects.filter(owner__in=over, status__in=UNFINISHED))
    for composition in unfinished:
        leases.cancel(Composition, composition.pk)
    free = set(over) - {composition.owner_id for composition in unfinished}
    hashes = set(ResultFile.objects.filter(composition__owner__in=free).values_list("sha256", flat=True))
    User.objects.filter(pk__in=free).delete()
    transaction.on_commit(partial(delete_unnamed_blobs, hashes))
