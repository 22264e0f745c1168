"""The only place that touches module files. `make_store` gives the store that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modules_registry.storage.base import (
    DISK_FAULTS,
    LOCAL_FAULTS,
    LONG_WAITING,
    PASSING_ERRORS,
    SHORT_WAITING,
    AlteredBlobError,
    Blob,
    MissingBlobError,
    ObjectStoreSettings,
    Readable,
    RemoteAlteredError,
    RemoteGoneError,
    RemoteStoreError,
    RemoteStoreFile,
    RemoteUnavailableError,
    StorageError,
    StorageFaultError,
    StorageFullError,
    Store,
    StoreUnreachableError,
    TooLargeError,
    Waiting,
)
from modules_registry.storage.disk import DiskStore

__all__ = [
    "DISK_FAULTS",
    "LOCAL_FAULTS",
    "LONG_WAITING",
    "PASSING_ERRORS",
    "SHORT_WAITING",
    "STORES",
    "AlteredBlobError",
    "Blob",
    "MissingBlobError",
    "ObjectStoreSettings",
    "Readable",
    "RemoteAlteredError",
    "RemoteGoneError",
    "RemoteStoreError",
    "RemoteStoreFile",
    "RemoteStoreSettings",
    "RemoteUnavailableError",
    "StorageError",
    "StorageFaultError",
    "StorageFullError",
    "Store",
    "StoreSettings",
    "StoreUnreachableError",
    "TooLargeError",
    "Waiting",
    "make_object_store",
    "make_remote_store",
    "make_store",
]

if TYPE_CHECKING:
    from modules_registry.storage.object_store import ObjectStore
    from modules_registry.storage.remote import RemoteStore

STORES = ("disk", "hub", "s3")


@dataclass(frozen=True)
class RemoteStoreSettings:
    """The Hub behind this site."""

    endpoint: str
    token: str = field(repr=False)
    namespace: str  # the user or organization there that owns every repository


@dataclass(frozen=True)
class StoreSettings:
    """What the site's settings say about the store."""

    kind: str  # one of STORES
    folder: Path  # the blobs on this machine
    hub: RemoteStoreSettings | None = None
    s3: ObjectStoreSettings | None = None
    waiting: Waiting = LONG_WAITING


def make_store(settings: StoreSettings, locate: Callable[[str], RemoteStoreFile | None]) -> Store:
    """The store that the settings name.

    Args:
        locate: where on the Hub a sha256 is; only the rows know. A disk alone never asks.
    """
    if settings.kind not in STORES:
        raise ValueError(f"No store is called {settings.kind!r}. Known: {', '.join(STORES)}.")
    if settings.kind == "hub":
        return make_remote_store(settings, locate)
    return make_object_store(settings) if settings.kind == "s3" else DiskStore(settings.folder)


def make_remote_store(
    settings: StoreSettings, locate: Callable[[str], RemoteStoreFile | None]
) -> "RemoteStore":
    # Imported here: a site that keeps its files on its own disk need not load a Hub's client.
    from modules_registry.storage.remote import RemoteStore
    from modules_registry.storage.remote_client import RemoteStoreClient

    if settings.hub is None:
        raise ValueError("The store “hub” needs the Hub's address, token and namespace.")
    client = RemoteStoreClient(
        settings.hub.endpoint, settings.hub.token, settings.hub.namespace, settings.waiting
    )
    return RemoteStore(settings.folder, client, locate)


def make_object_store(settings: StoreSettings) -> "ObjectStore":
    # Imported here: a site that keeps its files on its own disk need not load the client of a storage.
    from modules_registry.storage.object_client import ObjectClient
    from modules_registry.storage.object_store import ObjectStore

    if settings.s3 is None:
        raise ValueError("The store “s3” needs a bucket.")
    return ObjectStore(settings.folder, ObjectClient(settings.s3, settings.waiting))
