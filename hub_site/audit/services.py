from typing import Any

from hub_site.accounts.models import User
from hub_site.audit.models import AuditEntry


def audit_record(*, actor: User | None, action: str, subject: str, **detail: Any) -> None:
    """Append what was done, in the transaction that does it."""
    AuditEntry.objects.create(actor=actor, action=action, subject=subject[:200], detail=detail)
