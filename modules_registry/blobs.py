"""Stored files and the rows that name them: added together, removed when no row names them."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from hub_site.common.errors import Refusal
from hub_site.common.readiness import COMPLETE, UNREACHABLE
from hub_site.common.site_faults import RETRY_AFTER_S, STATUSES, http_status
from hub_site.common.waiting_requests import give_connection_back, is_answering_request
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import StoredFile, VersionFile
from modules_registry.storage import (
    DISK_FAULTS,
    LONG_WAITING,
    SHORT_WAITING,
    Blob,
    ObjectStoreSettings,
    RemoteStoreFile,
    RemoteStoreSettings,
    RemoteUnavailableError,
    StorageError,
    Store,
    StoreSettings,
    StoreUnreachableError,
    TooLargeError,
    Waiting,
    make_object_store,
    make_remote_store,
    make_store,
)

if TYPE_CHECKING:
    from modules_registry.storage.object_store import ObjectStore
    from modules_registry.storage.remote import RemoteStore


logger = logging.getLogger(__name__)
IN_A_REQUEST = replace(SHORT_WAITING, begin=give_connection_back)
OF_A_PROBE = Waiting(connect_s=1, read_s=2, tries=1, breaks_max=0)  # it comes again in a few seconds


def has_remote_store() -> bool:
    return settings.HUB_STORE == "hub"


def has_shared_store() -> bool:
    """Whether the files are in an object storage, and on each machine only those that it used last."""
    return settings.HUB_STORE == "s3"


def store_settings() -> StoreSettings:
    hub = remote_store_settings() if has_remote_store() else None
    described: Mapping[str, Any] = settings.HUB_STORE_OBJECTS or {}
    s3 = ObjectStoreSettings(**described) if has_shared_store() else None
    waiting = IN_A_REQUEST if is_answering_request() else LONG_WAITING
    return StoreSettings(settings.HUB_STORE, settings.HUB_DATA / "blobs", hub, s3, waiting)


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


def storage_refusal(error: StorageError, field: str = "") -> Refusal:
    """What a visitor is told of a failure of the store.

    Args:
        field: of a form, whose file could not be stored.
    """
    status = 413 if isinstance(error, TooLargeError) else fault_status(error)
    retry_after_s = RETRY_AFTER_S if status in STATUSES else None
    fields = {field: [str(error)]} if field else {}
    return Refusal(error.code, str(error), status=status, fields=fields, retry_after_s=retry_after_s)


def fault_status(error: StorageError) -> int:
    """Return the status of an answer to a failure of the store: whether it will pass, and how."""
    if isinstance(error, DISK_FAULTS):
        return http_status(error.code)
    return 503 if isinstance(error, RemoteUnavailableError) else 500


@contextmanager
def store_files(files: Mapping[str, BinaryIO], *, max_bytes: int | None = None) -> Iterator[dict[str, Blob]]:
    """Put files into the store, then begin the transaction of the rows that will name them.

    A store may let us wait, so the transaction begins after that. Whatever goes wrong before its end, neither
    the rows nor the new files stay.
    """
    blobs: dict[str, Blob] = {}
    if not files:  # else the store is asked anyway
        require_store()
    try:
        for path, file in files.items():
            blobs[path] = put(path, file, max_bytes or upload_bytes_max())
        with transaction.atomic():
            lock_blobs(shared=True)
            for path, blob in blobs.items():
                put_again_if_removed(path, blob, files[path])
            yield blobs
    except BaseException:  # also an end of the worker in the middle: the transaction takes back rows alone
        delete_unnamed_blobs({blob.sha256 for blob in blobs.values()})
        raise


def put(path: str, file: BinaryIO, max_bytes: int) -> Blob:
    file.seek(0)
    try:
        return store().put(file, max_bytes=max_bytes)
    except StorageError as error:
        raise storage_refusal(error, FIELD_OF_FILE.get(path, path)) from error


def put_again_if_removed(path: str, blob: Blob, file: BinaryIO) -> None:
    """The same bytes may have lost their last row between our put and our lock, and then went with it.

    A body that can be read only once is refused: its client sends it again.
    """
    try:
        is_there = store().exists(blob.sha256)
    except StorageError as error:
        raise storage_refusal(error, FIELD_OF_FILE.get(path, path)) from error
    if not is_there and put(path, file, blob.size_bytes) != blob:
        raise storage_refusal(StoreUnreachableError("lost a file while it was stored"), path)


def delete_unnamed_blobs(hashes: Iterable[str]) -> None:
    """Remove those of the files that no row names any more.

    While a backup is made, or the store does not do it, they stay, and the next sweep removes them: what was
    deleted is deleted.
    """
    unnamed = set(blobs_unnamed(hashes))
    if not unnamed:
        return
    try:
        store().require_answer()
        delete_in_transaction(unnamed)
    except StorageError as error:
        logger.warning("%d files that nothing names stay until the next sweep: %s", len(unnamed), error)


@transaction.atomic
def delete_in_transaction(hashes: Iterable[str]) -> None:
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


def open_stored(sha256: str, *, check: bool = False) -> BinaryIO:
    """Open a file that a row names. If it is gone, that is our fault, and said so.

    Args:
        check: as in `Store.fetch`.
    """
    try:
        return store().open(sha256, check=check)
    except StorageError as error:
        logger.error("A file that a row names cannot be read: %s: %s", sha256, error)
        raise storage_refusal(error) from error


def ask_store() -> str:
    """COMPLETE where the files are answers, UNREACHABLE where it does not, or the code of its fault."""
    try:
        make_store(replace(store_settings(), waiting=OF_A_PROBE), find_remote_file).require_answer()
    except StoreUnreachableError:
        return UNREACHABLE
    except StorageError as error:
        return error.code
    return COMPLETE


@contextmanager
def transaction_with_files() -> Iterator[None]:
    """A transaction in which stored files are read or written. The store is asked before it begins.

    So a store that hangs keeps no connection to the database. Also a decorator.
    """
    require_store()
    with transaction.atomic():
        yield


def require_store() -> None:
    """Refuse what needs stored files while the place where they are does not answer."""
    try:
        store().require_answer()
    except StorageError as error:
        raise storage_refusal(error) from error


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
