"""Telling accounts something, marking it read, choosing what comes by mail."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.db.models.functions import Now

from hub_site.common.errors import field_refusal
from hub_site.notifications.models import (
    MAILED_BY_CHOICE,
    TEXT_MAX,
    Kind,
    MailChoice,
    Notice,
    Notification,
)
from hub_site.notifications.selectors import who_wants_mail

KEPT = timedelta(days=180)
# These have a mail of their own, with more in it.
MAILED_ELSEWHERE = frozenset({Kind.COMPOSITION, Kind.STAFF, Kind.INVITATION})


def notify(notices: Iterable[Notice]) -> None:
    """Tell accounts, in the transaction of what happened. What was told already is not told again."""
    told = sorted(notices, key=lambda notice: (notice.user_id, notice.kind, notice.about))
    if not told:
        return
    wanted = who_wants_mail({notice.user_id for notice in told}, {notice.kind for notice in told})
    Notification.objects.bulk_create(
        [
            Notification(
                user_id=notice.user_id,
                kind=notice.kind,
                about=notice.about,
                text=shortened(notice.text),
                path=notice.path,
                is_mail_wanted=notice.kind not in MAILED_ELSEWHERE
                and (notice.user_id, notice.kind.value) in wanted,
            )
            for notice in told
        ],
        ignore_conflicts=True,
    )


def shortened(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def notifications_read(*, user: AbstractBaseUser, ids: Collection[int] | None = None) -> int:
    """Mark these of an account as read, None: all of them; returns how many were unread."""
    unread = Notification.objects.filter(user=user.pk).unread()
    if ids is not None:
        unread = unread.filter(pk__in=ids)
    return unread.update(read_at=Now())


@transaction.atomic
def mail_choose(*, user: AbstractBaseUser, kinds: Collection[str]) -> None:
    """Of these kinds an account wants a mail each time, and of no others."""
    unknown = [kind for kind in kinds if kind not in MAILED_BY_CHOICE]
    if unknown:
        raise field_refusal(
            "bad_kind", "mail", f"“{unknown[0][:40]}” is no kind of notification with mail.", MAILED_BY_CHOICE
        )
    MailChoice.objects.filter(user=user.pk).exclude(kind__in=kinds).delete()
    MailChoice.objects.bulk_create(
        [MailChoice(user_id=user.pk, kind=kind) for kind in sorted(set(kinds))], ignore_conflicts=True
    )


def old_notifications_delete() -> None:
    """Forget what is older than KEPT."""
    Notification.objects.filter(created_at__lt=Now() - KEPT).delete()
