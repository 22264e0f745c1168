"""Reading what was done: the history of a thing, for whoever owns it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Model, Q, QuerySet

from hub_site.audit.models import AuditEntry

SITE_STAFF, SITE = "the site's staff", "this site"
WORDS: Mapping[str, str] = {
    "account.create": "created the account",
    "account.delete": "deleted the account",
    "account.export": "exported the account's data",
    "account.restore": "ended the suspension",
    "account.sign_in": "signed in",
    "account.sign_in_failed": "failed to sign in: wrong password",
    "account.sign_out": "ended a session",
    "account.suspend": "suspended the account",
    "account.password": "changed the password",
    "base_model.add": "added the base model",
    "base_model.alias": "gave the base model another name",
    "base_model.request": "asked for the base model",
    "member.add": "joined",
    "member.change": "changed a role",
    "member.invite": "invited",
    "member.remove": "left or was removed",
    "module.branch": "created a branch",
    "module.branch.delete": "deleted a branch",
    "module.commit": "committed files",
    "module.create": "created a draft",
    "module.delete": "deleted the module",
    "module.edit": "edited the module",
    "module.hide": "made the module private",
    "module.move": "renamed the module",
    "module.publish": "published the module",
    "module.quarantine": "quarantined the module",
    "module.release": "released the module from quarantine",
    "module.show": "made the module public",
    "module.sweep": "removed an empty repository",
    "module.tag": "created a tag",
    "module.tag.delete": "deleted a tag",
    "module.takedown": "took the module down",
    "module.version": "published a version",
    "organization.create": "created the organization",
    "report.dismiss": "dismissed reports",
    "share.block": "blocked the link",
    "share.unblock": "unblocked the link",
    "token.create": "created a token",
    "token.revoke": "revoked a token",
}
# What only staff do. Whose things it concerns is told that it was staff, not who of them.
BY_STAFF = frozenset(
    {"account.suspend", "account.restore", "module.quarantine", "module.release", "module.takedown"}
    | {"share.block", "share.unblock"}
)
NOT_FOR_OWNERS = frozenset({"report.dismiss"})  # that somebody reported it, and in vain


@dataclass(frozen=True)
class HistoryLine:
    """One thing that happened, as its owner is told."""

    at: datetime
    who: str
    action: str  # the stable name
    words: str
    subject: str
    reason: str


def row_name(row: Model) -> str:
    """What a row is called in the audit, for good: “module:12”."""
    return f"{row._meta.model_name}:{row.pk}"


def history_of(row: Model, called: str) -> QuerySet[AuditEntry]:
    """What was done to a row, newest first; entries that are older than row names go by what it is called."""
    kind = str(row._meta.model_name)
    older = Q(thing="", subject=called, action__startswith=f"{kind}.")
    return owners_entries().filter(Q(thing=row_name(row)) | older)


def history_of_account(account: AbstractBaseUser) -> QuerySet[AuditEntry]:
    """What an account did, and what was done to it."""
    return owners_entries().filter(Q(thing=row_name(account)) | Q(actor=account.pk))


def owners_entries() -> QuerySet[AuditEntry]:
    return (
        AuditEntry.objects.exclude(action__in=NOT_FOR_OWNERS).select_related("actor").order_by("-at", "-pk")
    )


def history_lines(entries: Iterable[AuditEntry]) -> list[HistoryLine]:
    return [
        HistoryLine(
            at=entry.at,
            who=who_of(entry),
            action=entry.action,
            words=WORDS.get(entry.action, entry.action),
            subject=entry.subject,
            reason=reason_of(entry.detail),
        )
        for entry in entries
    ]


def who_of(entry: AuditEntry) -> str:
    if entry.action in BY_STAFF:
        return SITE_STAFF
    return entry.actor.get_username() if entry.actor else SITE


def reason_of(detail: Any) -> str:
    return str(detail.get("reason", "")) if isinstance(detail, dict) else ""
