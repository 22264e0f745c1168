"""Asking for an import, taking the wish back, trying again what did not come in."""

import re
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from hub_site.accounts.models import Namespace, User
from hub_site.common.disk import require_disk_space
from hub_site.common.errors import Refusal, log_refusals
from hub_site.common.site_faults import RETRY_AFTER_S
from hub_site.jobs import leases
from hub_site.jobs.models import FINISHED
from modules_registry.core.adapter_config import is_base_name
from modules_registry.files.validation import require_base_name
from modules_registry.importing import selectors
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.tasks import run_import
from modules_registry.services import require_writable

REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
PAGE_OF_A_REPOSITORY = re.compile(r"(?P<name>[^/?#]+(?:/[^/?#]+)?)(?:/tree/(?P<revision>[^?#]+?))?/?")


def import_request(
    *,
    owner: User,
    namespace: Namespace,
    sources: Sequence[str],
    base: str = "",
    endpoint: str = "",
    enqueue: bool = True,
) -> ModuleImport:
    """Store what is asked for, repositories and owners on a Hub, and queue it once it is committed.

    Args:
        endpoint: another Hub than the site's own; only the operator's commands may name one.
    """
    require_writable(owner, namespace)
    require_base_name(base)
    wanted = list(dict.fromkeys(source_of(text) for text in sources if text.strip()))
    most = settings.HUB_IMPORT_REPOSITORIES_MAX
    if not 1 <= len(wanted) <= most:
        raise bad_sources(f"Name 1 to {most} repositories or owners, one a line.")
    for source in wanted:
        require_source(source)
    with transaction.atomic():
        with log_refusals(owner.pk):
            require_import_quota(owner)
        job = ModuleImport.objects.create(
            owner=owner, namespace=namespace, sources=wanted, base_name=base, endpoint=endpoint
        )
        if enqueue:
            transaction.on_commit(lambda: run_import.delay(str(job.pk)), robust=True)
    return job


def import_cancel(*, owner: User, import_id: UUID) -> ModuleImport:
    """Ask for the end of it. What came in stays; a finished import stays as it is."""
    job = require_own(owner, import_id)
    leases.cancel(ModuleImport, job.pk)
    job.refresh_from_db()
    return job


@transaction.atomic
def imports_end(rows: QuerySet[ModuleImport], *, code: str, message: str) -> None:
    """End what is queued or runs among these rows, for a reason that is not their owners'."""
    ids = list(rows.exclude(status__in=FINISHED).values_list("pk", flat=True))
    ModuleImport.objects.filter(pk__in=ids).update(error_code=code, error_message=message)
    for import_id in ids:
        leases.cancel(ModuleImport, import_id)


def import_again(*, owner: User, import_id: UUID) -> ModuleImport:
    """A new import of what a finished one refused or did not come to."""
    job = require_own(owner, import_id)
    if not job.is_finished:
        raise Refusal("not_finished", "It is not finished yet. Wait for it, or cancel it.", status=409)
    sources = selectors.sources_left(job)
    if not sources:
        raise Refusal("nothing_left", "Everything was imported; there is nothing to retry.", status=409)
    return import_request(
        owner=owner, namespace=job.namespace, sources=sources, base=job.base_name, endpoint=job.endpoint
    )


def require_own(owner: User, import_id: UUID) -> ModuleImport:
    job = selectors.import_find(owner, import_id)
    if job is None:
        raise Refusal("not_found", "This import does not exist, or is not yours.", status=404)
    return job


def require_import_quota(owner: User) -> None:
    require_disk_space()
    User.objects.select_for_update().get(pk=owner.pk)  # one request of an owner at a time
    most = settings.HUB_IMPORTS_UNFINISHED_MAX
    if selectors.unfinished_count(owner) >= most:
        message = (
            f"You have {most} imports waiting or running, the most at once. "
            "Wait for one to finish, or cancel one."
        )
        raise Refusal("too_many_running", message, status=429, retry_after_s=RETRY_AFTER_S)


def source_of(text: str) -> str:
    """A source as it was written, or taken out of the address that a browser shows on the Hub."""
    source = text.strip()
    address = settings.HUB_IMPORT_ENDPOINT.rstrip("/") + "/"
    match = (
        PAGE_OF_A_REPOSITORY.fullmatch(source.removeprefix(address)) if source.startswith(address) else None
    )
    if match is None:
        return source
    return f"{match['name']}@{match['revision']}" if match["revision"] else match["name"]


def require_source(source: str) -> None:
    name, at, revision = source.partition("@")
    if not is_base_name(name) or (at and not ("/" in name and REVISION.fullmatch(revision))):
        raise bad_sources(
            f"“{source[:80]}” is not a repository. Write owner/name, owner/name@revision or owner."
        )


def bad_sources(message: str) -> Refusal:
    return Refusal("bad_sources", message, fields={"sources": [message]})
