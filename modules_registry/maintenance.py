"""Keeping the store and the rows in step: what is missing, altered or left over, and the disk as a cache."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import ForeignKey
from django.db.models.functions import Now

from hub_site.audit.services import audit_record
from modules_registry import blobs as modules_registry_blobs
from modules_registry.blobs import (
    delete_unnamed_blobs,
    find_remote_file,
    has_remote_store,
    has_shared_store,
    lock_blobs,
    may_remove_blobs,
    published_files,
    remote_store,
    shared_store,
)
from modules_registry.files.lfs_uploads import sweep_incoming
from modules_registry.lineage import delete_unless_needed
from modules_registry.mirror import selectors
from modules_registry.mirror.services import repository_queue, repository_renew
from modules_registry.models import HubRepository, Module, Sketch, StoredFile, Version, VersionFile
from modules_registry.storage import RemoteGoneError, StorageError, Store

if TYPE_CHECKING:
    from modules_registry.storage.remote_client import RemoteStoreClient

LEFT_BEHIND_S = 24 * 3600  # an upload that has not ended by then never will
LIMIT_CACHE_EVERY_S = 15.0
KEPT_BYTES = 1_000_000  # smaller files stay here, so that pages never wait for the Hub
AT_ONCE = 1000  # hashes in one query


@dataclass(frozen=True)
class Finding:
    """One file that is not as it should be."""

    kind: str  # "missing", "altered", "orphaned" or "hub"
    sentence: str
    sha256: str = ""
    version: Version | None = None  # of a finding on the Hub
    repository: HubRepository | None = None  # that is gone from the Hub as a whole


def sweep_files() -> None:
    """Remove what nothing names any more, once for all machines; then free space that the Hub makes free."""
    for version in Version.objects.filter(module__deleted_at__isnull=False):
        files = set(version.files.values_list("sha256", flat=True))
        delete_unless_needed(version)  # kept for compositions, which may be gone by now
        delete_unnamed_blobs(files)
    Sketch.objects.filter(versions=None).delete()
    sweep_incoming()
    sweep_refused()
    delete_unnamed_blobs(orphans(modules_registry_blobs.store()))
    if has_remote_store() and settings.HUB_STORE_CACHE_MB:
        evict(settings.HUB_STORE_CACHE_MB * 1_000_000)


def sweep_machine() -> None:
    """Remove what killed uploads left on this machine, and what it keeps of files that nothing names."""
    modules_registry_blobs.store().sweep(older_than_s=LEFT_BEHIND_S)
    sweep_folder(settings.FILE_UPLOAD_TEMP_DIR)
    if has_shared_store():
        here = shared_store().here  # a file that is being stored may go: it is in the shared store already
        for sha256 in orphans(here):
            here.delete(sha256)


def limit_cache() -> None:
    """Keep what this machine has of a shared store within HUB_STORE_CACHE_MB."""
    if has_shared_store() and settings.HUB_STORE_CACHE_MB:
        shared_store().make_room(settings.HUB_STORE_CACHE_MB * 1_000_000)


def sweep_refused() -> int:
    """Remove repositories that were made for an upload that was refused, a day ago; return how many."""
    latest = Now() - timedelta(seconds=LEFT_BEHIND_S)
    refused = Module.objects.existing().filter(
        current=None, draft__parent=None, is_kept_empty=False, refused_at__lt=latest
    )
    return sum(remove_refused(module) for module in refused.values_list("pk", flat=True))


@transaction.atomic
def remove_refused(pk: int) -> bool:
    module = Module.objects.select_for_update(of=("self",)).select_related("namespace").get(pk=pk)
    if module.current_id is not None or VersionFile.objects.filter(version__module=module).exists():
        return False  # something came in the meantime
    audit_record(actor=None, action="module.sweep", subject=module.full_name, thing=module)
    Module.objects.filter(pk=pk).update(draft=None)
    module.versions.all().delete()
    module.delete()
    return True


def sweep_folder(folder: Path) -> None:
    """Remove spooled uploads whose process was killed."""
    latest = time.time() - LEFT_BEHIND_S
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime <= latest:
                path.unlink()


def orphans(store: Store) -> Iterator[str]:
    """Files that no row names. One that is being stored this moment may be among them: ask under the lock."""
    for hashes in in_portions(blob.sha256 for blob in store.iter()):
        yield from modules_registry_blobs.blobs_unnamed(hashes)


def in_portions(hashes: Iterable[str]) -> Iterator[set[str]]:
    waiting = iter(hashes)
    while portion := set(islice(waiting, AT_ONCE)):
        yield portion


def evict(limit_bytes: int) -> int:
    """Remove files that the Hub has too, least recently used first, until the rest fits; returns how many."""
    blobs = remote_store().by_last_use()
    excess, evicted = sum(blob.size_bytes for blob in blobs) - limit_bytes, 0
    for blob in blobs:
        if excess <= 0:
            break
        if blob.size_bytes > KEPT_BYTES and evict_one(blob.sha256):
            excess -= blob.size_bytes
            evicted += 1
    return evicted


@transaction.atomic
def evict_one(sha256: str) -> bool:
    if not may_remove_blobs():
        return False
    lock_blobs(shared=False)  # no row may come to name it meanwhile
    is_on_the_hub = selectors.is_stored_remotely(sha256)
    if is_on_the_hub:
        modules_registry_blobs.store().delete(sha256)
    return is_on_the_hub


def fetch_all() -> Iterator[str]:
    """Fetch what is not on this machine, and say which files. Raises StorageError at the first that fails."""
    if has_shared_store():
        yield from fetch_missing(shared_store().here.exists, named_hashes())
    else:
        published = published_files().order_by().values_list("sha256", flat=True).distinct()
        yield from fetch_missing(modules_registry_blobs.store().exists, published)


def fetch_missing(is_here: Callable[[str], bool], hashes: Iterable[str]) -> Iterator[str]:
    for sha256 in hashes:
        if not is_here(sha256):
            modules_registry_blobs.store().restore(sha256)
            yield sha256


def send_all() -> Iterator[str]:
    """Send what only this machine has to the shared store, and say which files.

    Raises StorageError at the first that fails.
    """
    store = shared_store()
    for sha256 in named_hashes():
        if store.here.exists(sha256) and store.send(sha256):
            yield sha256


def named_hashes() -> set[str]:
    """The sha256 of every file that a row names."""
    named: set[str] = set()
    for model in stored_file_models():
        named |= set(model._default_manager.values_list("sha256", flat=True))
    return named


def findings() -> Iterator[Finding]:
    """Everything that is wrong with the files, each said in a sentence. Reads every byte that is here."""
    store = modules_registry_blobs.store()
    yield from missing(store)
    for sha256 in store.verify():
        yield Finding("altered", f"{blob_name(sha256)} has other bytes than were stored.", sha256)
    for sha256 in orphans(store):
        yield Finding("orphaned", f"{sha256} belongs to nothing.", sha256)
    if has_remote_store():
        yield from remote_findings()


def missing(store: Store) -> Iterator[Finding]:
    for model in stored_file_models():
        for row in model._default_manager.iterator():
            if not store.exists(row.sha256) and not can_be_evicted(row.sha256):
                sentence = f"{row_name(row)} is missing: {row.sha256}."
                yield Finding("missing", sentence, row.sha256)


def can_be_evicted(sha256: str) -> bool:
    return has_remote_store() and find_remote_file(sha256) is not None


def remote_findings() -> Iterator[Finding]:
    remote = remote_store().remote
    for repository in HubRepository.objects.filter(is_there=True).select_related("module__namespace"):
        try:
            remote.require_there(repository.repo_id)
            for version in repository.module.versions.exclude(hub_commit_id=""):
                yield from wrong_with_version(remote, repository, version)
        except RemoteGoneError as error:
            yield Finding("hub", str(error), repository=repository)
        except StorageError as error:
            yield Finding("hub", f"{repository.repo_id} could not be looked at: {error}")


def wrong_with_version(
    remote: "RemoteStoreClient", repository: HubRepository, version: Version
) -> Iterator[Finding]:
    files = dict(version.files.values_list("path", "sha256"))
    place = f"{repository.repo_id} at {version.hub_commit_id[:8]} on the Hub"
    try:
        altered = remote.altered_files(repository.repo_id, version.hub_commit_id, files)
    except RemoteGoneError:
        yield Finding("hub", f"There is no {place} any more.", version=version)
        return
    for path in altered:
        yield Finding("hub", f"{path} is missing or altered in {place}.", files[path], version)


def is_gone(repository: HubRepository) -> bool:
    """Whether the Hub says that it has no such repository; it may also say nothing."""
    try:
        remote_store().remote.require_there(repository.repo_id)
    except StorageError as error:
        return isinstance(error, RemoteGoneError)
    return False


def repair(finding: Finding) -> bool:
    """Put one thing right, as far as the bytes are still somewhere; returns whether it is."""
    store = modules_registry_blobs.store()
    try:
        if finding.kind == "orphaned":
            delete_unnamed_blobs([finding.sha256])
            return not store.exists(finding.sha256)
        if finding.repository is not None:
            repository_renew(finding.repository)
        elif finding.kind == "hub":
            return publish_again(finding)
        else:
            store.restore(finding.sha256)
    except StorageError:
        return False
    return True


def publish_again(finding: Finding) -> bool:
    """Let a version be stored on the Hub once more, if its files are whole here."""
    store, version = modules_registry_blobs.store(), finding.version
    if version is None or not all(store.exists(file.sha256) for file in version.files.all()):
        return False
    Version.objects.filter(pk=version.pk).update(hub_commit_id="")
    repository_queue(version.module, now=True)
    return True


def stored_file_models() -> list[type[StoredFile]]:
    return [model for model in apps.get_models() if issubclass(model, StoredFile)]


def blob_name(sha256: str) -> str:
    """What a person knows a file by."""
    for model in stored_file_models():
        row = model._default_manager.filter(sha256=sha256).first()
        if row is not None:
            return row_name(row)
    return sha256


def row_name(row: StoredFile) -> str:
    if isinstance(row, VersionFile):
        return f"{row.path} of {row.version.module.full_name} ({row.version.revision})"
    owner = next(field.name for field in row._meta.fields if isinstance(field, ForeignKey))
    return f"{row.path} of {getattr(row, owner)}"
