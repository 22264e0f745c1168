"""What of the registry is on the Hub behind this site, and where: reads only."""

from dataclasses import dataclass
from datetime import datetime

from django.apps import apps
from django.db.models import Q, QuerySet

from hub_site.jobs.models import FINISHED, Status
from modules_registry.blobs import (
    as_remote_file,
    has_remote_store,
    published_files,
    remote_store,
    remote_store_settings,
)
from modules_registry.models import Hold, HubRepository, Module, StoredFile, Version, VersionFile


def file_address(version: Version, path: str) -> str | None:
    """Where on the Hub everybody can fetch a file; None: it is to be served from here.

    A repository is as private as its module only once the Hub has been told.
    """
    if not has_remote_store() or version.module.is_hidden:
        return None
    file = published_files().filter(
        version=version, path=path, version__module__hub_repository__is_private=False
    )
    found = file.first()
    return remote_store().remote.url(as_remote_file(found)) if found else None


def is_stored_remotely(sha256: str) -> bool:
    """Does every row that names these bytes belong to a version that is on the Hub?"""
    published = published_files().filter(sha256=sha256).values("pk")
    for model in apps.get_models():
        if issubclass(model, StoredFile):
            naming = model._default_manager.filter(sha256=sha256)
            if model is VersionFile:
                naming = naming.exclude(pk__in=published)
            if naming.exists():
                return False
    return published.exists()


def versions_to_publish(module: Module) -> QuerySet[Version]:
    """In the order in which they were published here; a draft's or a branch's steps stay here alone."""
    return module.versions.filter(number__isnull=False, hub_commit_id="").order_by("number")


def modules_to_store() -> QuerySet[Module]:
    """Modules whose repository is not what it should be, and about which nothing is under way."""
    settled = Q(hub_repository=None) | Q(hub_repository__status=Status.DONE)
    missing = Q(deleted_at=None, versions__number__isnull=False, versions__hub_commit_id="")
    missing &= ~Q(hold=Hold.TAKEDOWN)
    is_hidden = Q(pk__in=Module.objects.hidden().values("pk"))
    is_private = Q(hub_repository__is_private=True)
    exposed = Q(deleted_at=None) & (is_hidden & ~is_private | ~is_hidden & is_private)
    left = Q(deleted_at__isnull=False) | Q(hold=Hold.TAKEDOWN)
    there = Q(hub_repository__is_there=True)
    return Module.objects.filter(settled, missing | there & (exposed | left)).distinct()


def repositories_settled() -> QuerySet[HubRepository]:
    """Those that should be on the Hub, and about which nothing is under way."""
    there = HubRepository.objects.filter(is_there=True, module__deleted_at=None, status__in=FINISHED)
    there = there.exclude(module__hold=Hold.TAKEDOWN)
    return there.select_related("module__namespace")


@dataclass(frozen=True)
class RemoteCopy:
    """What a page says of a version's copy on the Hub."""

    state: str  # "stored", "waiting" or "failed"
    repo_id: str = ""
    commit_id: str = ""
    url: str = ""
    reason: str = ""  # why it is not there yet, or not at all
    next_try_at: datetime | None = None


def remote_copy(version: Version) -> RemoteCopy | None:
    """None where files stay on this machine's disk, and for steps that are never published."""
    if not has_remote_store() or version.number is None:
        return None
    repository = HubRepository.objects.filter(module=version.module_id).first()
    if repository is None:
        return RemoteCopy("waiting")
    if version.hub_commit_id and repository.is_there:
        endpoint = remote_store_settings().endpoint.rstrip("/")
        address = f"{endpoint}/{repository.repo_id}/tree/{version.hub_commit_id}"
        return RemoteCopy("stored", repository.repo_id, version.hub_commit_id, address)
    if repository.status == Status.FAILED:
        return RemoteCopy("failed", repository.repo_id, reason=repository.error_message)
    next_try_at = repository.due_at if repository.attempts else None
    return RemoteCopy("waiting", reason=repository.error_message, next_try_at=next_try_at)
