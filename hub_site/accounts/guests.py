"""Guests: a row that stands for a browser without an account, so that what it does is kept for a day."""

import secrets
from datetime import timedelta

from django.db.models import Count, Q
from django.db.models.functions import Now

from hub_site.accounts.models import User
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal, log_refusals

KEPT = timedelta(days=1)
OF_ADDRESS_MAX = 30  # at one moment: an office is behind one address
ALL_MAX = 5000
RETRY_S = 3600


def guest_find(key: object) -> User | None:
    """The guest with this primary key, until its day is over."""
    return User.objects.filter(pk=key, guest_until__gt=Now()).first() if isinstance(key, int) else None


def guest_create(*, address_hash: str) -> User:
    """Make a guest. Its name holds a character that no account's may have, so it takes nobody's.

    Args:
        address_hash: of the address that it comes from.

    Raises:
        Refusal: too many come from there, or there are too many (429).
    """
    counts = User.objects.filter(guest_until__gt=Now()).aggregate(
        all=Count("pk"), here=Count("pk", filter=Q(guest_address=address_hash))
    )
    if counts["here"] >= OF_ADDRESS_MAX or counts["all"] >= ALL_MAX:
        message = "Too many visitors compose without an account at the moment. Sign up to go on."
        with log_refusals(None):
            raise Refusal("too_many_guests", message, status=429, retry_after_s=RETRY_S)
    guest = User(
        username=f"~guest-{secrets.token_hex(8)}",
        guest_until=database_now() + KEPT,
        guest_address=address_hash,
    )
    guest.set_unusable_password()
    guest.save()
    return guest
