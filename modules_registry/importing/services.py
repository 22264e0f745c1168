"""Asking for an import, and taking the wish back."""

import re
from collections.abc import Sequence

from django.db import transaction

from hub_site.accounts.models import Namespace, User
from hub_site.common.errors import Refusal
from modules_registry.core.adapter_config import is_base_name
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.tasks import run_import
from modules_registry.intake import require_base_name
from modules_registry.services import require_writable

SOURCES_MAX = 1000
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def import_request(
    *, owner: User, namespace: Namespace, sources: Sequence[str], base: str = "", ring: bool = True
) -> ModuleImport:
    """Store what is asked for, repositories and owners on a Hub, and ring the queue once it is committed."""
    require_writable(owner, namespace)
    require_base_name(base)
    wanted = list(dict.fromkeys(source.strip() for source in sources if source.strip()))
    if not 1 <= len(wanted) <= SOURCES_MAX:
        raise bad_sources(f"Name 1 to {SOURCES_MAX} repositories or owners, one a line.")
    for source in wanted:
        require_source(source)
    with transaction.atomic():
        job = ModuleImport.objects.create(owner=owner, namespace=namespace, sources=wanted, base_name=base)
        if ring:
            transaction.on_commit(lambda: run_import.delay(str(job.pk)), robust=True)
    return job


def require_source(source: str) -> None:
    name, at, revision = source.partition("@")
    if not is_base_name(name) or (at and not ("/" in name and REVISION.fullmatch(revision))):
        raise bad_sources(
            f"“{source[:80]}” is no repository. Write owner/name, owner/name@revision or owner."
        )


def bad_sources(message: str) -> Refusal:
    return Refusal("bad_sources", message, fields={"sources": [message]})
