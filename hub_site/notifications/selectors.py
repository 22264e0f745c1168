"""What an account was told: reads only."""

from collections.abc import Iterable

from django.contrib.auth.base_user import AbstractBaseUser

from hub_site.notifications.models import (
    MAILED_BY_CHOICE,
    Kind,
    MailChoice,
    Notification,
    NotificationQuerySet,
)


def notifications_of(user: AbstractBaseUser, *, only_unread: bool = False) -> NotificationQuerySet:
    """Newest first."""
    found = Notification.objects.filter(user=user.pk)
    return found.unread() if only_unread else found


def mailed_kinds(user: AbstractBaseUser) -> list[str]:
    """The kinds of which an account wants a mail each time, in the order of the page."""
    chosen = set(MailChoice.objects.filter(user=user.pk).values_list("kind", flat=True))
    return [kind.value for kind in MAILED_BY_CHOICE if kind in chosen]


def wants_mail(user: AbstractBaseUser, kind: Kind) -> bool:
    return MailChoice.objects.filter(user=user.pk, kind=kind).exists()


def who_wants_mail(users: Iterable[int], kinds: Iterable[str]) -> set[tuple[int, str]]:
    """Of these accounts, by their keys, who wants a mail of which of these kinds."""
    chosen = MailChoice.objects.filter(user__in=set(users), kind__in=set(kinds))
    return set(chosen.values_list("user", "kind"))
