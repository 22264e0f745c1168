"""Writing down what was done."""

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Model

from hub_site.audit.models import AuditEntry
from hub_site.audit.selectors import row_name


def audit_record(
    *, actor: AbstractBaseUser | None, action: str, subject: str, thing: Model | None = None, **detail: Any
) -> None:
    """Append what was done, in the transaction that does it.

    Args:
        actor: who did it; None: the site itself, or a visitor.
        subject: what the thing is called now.
        thing: its row, so that its history is found after it was renamed.
    """
    AuditEntry.objects.create(
        actor_id=actor.pk if actor else None,
        action=action,
        subject=subject[:200],
        thing=row_name(thing) if thing is not None else "",
        detail=detail,
    )
