"""Stored files and the rows that name them: added together, removed when no row names them."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from hub_site.common.errors import Refusal
from hub_site.common.site_faults import RETRY_AFTER_S, STATUSES, http_status
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import StoredFile, VersionFile
from modules_registry.storage import (
    DISK_FAULTS,
    Blob,
    ObjectStoreSettings,
    RemoteStoreFile,
    RemoteStoreSettings,
    RemoteUnavailableError,
    StorageError,
    Store,
    StoreSettings,
    TooLargeError,
    make_object_store,
    make_remote_store,
    make_store,
)

if TYPE_CHECKING:
    from modules_registry.storage.object_store import ObjectStore
    from modules_registry.storage.remote import RemoteStore


logger = logging.getLogger(__name__)


def has_remote_store() -> bool:
    return settings.HUB_STORE == "hub"


def has_shared_store() -> bool:
    """Whether the files are in an object storage, and on each machine only those that it used last."""
    return settings.HUB_STORE == "s3"


def store_settings() -> StoreSettings:
    hub = remote_store_settings() if has_remote_store() else None
    described: Mapping[str, Any] = settings.HUB_STORE_OBJECTS or {}
    s3 = ObjectStoreSettings(**described) if has_shared_store() else None
    return StoreSettings(settings.HUB_STORE, settings.HUB_DATA / "blobs", hub, s3)


def remote_store_settings() -> RemoteStoreSettings:
    remote: Mapping[str, str] = settings.HUB_STORE_REMOTE or {}
    return RemoteStoreSettings(**remote)


def remote_store() -> "RemoteStore":
    """The store with its Hub; only where there is one."""
    return make_remote_store(store_settings(), find_remote_file)


def shared_store() -> "ObjectStore":
    """The store in an object storage; only where there is one."""
    return make_object_store(store_settings())


def find_remote_file(sha256: str) -> RemoteStoreFile | None:
    """A place on the Hub that holds these bytes."""
    file = published_files().filter(sha256=sha256).first()
    return as_remote_file(file) if file else None


def published_files() -> QuerySet[VersionFile]:
    published = VersionFile.objects.exclude(version__hub_commit_id="").filter(
        version__module__hub_repository__is_there=True
    )
    return published.select_related("version__module__hub_repository").order_by("-pk")


def as_remote_file(file: VersionFile) -> RemoteStoreFile:
    repository = file.version.module.hub_repository
    return RemoteStoreFile(repository.repo_id, file.version.hub_commit_id, file.path, file.size_bytes)


FIELD_OF_FILE = {CONFIG_FILE: "config_file", WEIGHTS_FILE: "weights_file", CARD_FILE: "card_file"}


# The rows that name a blob and the blob itself are in two places. Who adds both shares this lock, who
# removes blobs that no row names has it alone: so nothing is removed between its put and its row.
BLOBS_LOCK = 0x6C6F7261
# A backup has this lock alone for as long as it copies the files that its copy of the database names. Whoever
# removes files shares it; while a backup has it they stay, and the next sweep removes them.
BACKUP_LOCK = 0x6261636B


def upload_bytes_max() -> int:
    return settings.HUB_UPLOAD_MAX_MB * 1_000_000


def storage_refusal(field: str, error: StorageError) -> Refusal:
    status = 413 if isinstance(error, TooLargeError) else fault_status(error)
    retry_after_s = RETRY_AFTER_S if status in STATUSES else None
    return Refusal(
        error.code, str(error), status=status, fields={field: [str(error)]}, retry_after_s=retry_after_s
    )


def fault_status(error: StorageError) -> int:
    """Return the status of an answer to a failure of the store: whether it will pass, and how."""
    if isinstance(error, DISK_FAULTS):
        return http_status(error.code)
    return 503 if isinstance(error, RemoteUnavailableError) else 500


@contextmanager
def store_files(files: Mapping[str, BinaryIO], *, max_bytes: int | None = None) -> Iterator[dict[str, Blob]]:
    """Put files into the store, in one transaction with the rows that will name them.

    Whatever goes wrong before its end, neither the rows nor the new files stay.
    """
    blobs: dict[str, Blob] = {}
    try:
        with transaction.atomic():
            lock_blobs(shared=True)
            for path, file in files.items():
                blobs[path] = put(path, file, max_bytes or upload_bytes_max())
            yield blobs
    except BaseException:  # also an end of the worker in the middle: the transaction takes back rows alone
        delete_unnamed_blobs({blob.sha256 for blob in blobs.values()})
        raise


def put(path: str, file: BinaryIO, max_bytes: int) -> Blob:
    file.seek(0)
    try:
        return store().put(file, max_bytes=max_bytes)
    except StorageError as error:
        raise storage_refusal(FIELD_OF_FILE.get(path, path), error) from error


@transaction.atomic
def delete_unnamed_blobs(hashes: Iterable[str]) -> None:
    """Remove those of the files that no row names any more; while a backup is made, the next sweep does."""
    if not may_remove_blobs():
        return
    lock_blobs(shared=False)
    for sha256 in blobs_unnamed(hashes):
        store().delete(sha256)


def may_remove_blobs() -> bool:
    """Whether no backup is being made; then none begins before the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", [BACKUP_LOCK])
        return bool(cursor.fetchone()[0])


def lock_blobs(*, shared: bool) -> None:
    """Until the end of the transaction."""
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [BLOBS_LOCK])


def store() -> Store:
    """Where the files are, as the settings say."""
    return make_store(store_settings(), find_remote_file)


def open_stored(sha256: str) -> BinaryIO:
    """Open a file that a row names. If it is gone, that is our fault, and said so."""
    try:
        return store().open(sha256)
    except StorageError as error:
        logger.exception("A file that a row names cannot be read: %s", sha256)
        raise Refusal(error.code, str(error), status=fault_status(error)) from error


def visitor_address(sha256: str, disposition: str, content_type: str) -> str | None:
    """Where a visitor may fetch a stored file without us; None where only we can hand it out."""
    return store().address(sha256, disposition=disposition, content_type=content_type)


def blobs_unnamed(hashes: Iterable[str]) -> Iterator[str]:
    """Those of the hashes that no row names: of any app, whatever keeps files of its own."""
    hashes = set(hashes)
    for model in apps.get_models():
        if issubclass(model, StoredFile):
            hashes -= set(model._default_manager.filter(sha256__in=hashes).values_list("sha256", flat=True))
    yield from hashes
