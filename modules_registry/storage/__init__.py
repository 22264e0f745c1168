"""The only place that touches module files. `make_store` gives the store that the settings name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modules_registry.storage.base import (
    AlteredBlobError,
    Blob,
    MissingBlobError,
    Readable,
    StorageError,
    StorageFullError,
    Store,
    TooLargeError,
)
from modules_registry.storage.disk import DiskStore

__all__ = [
    "STORES",
    "AlteredBlobError",
    "Blob",
    "MissingBlobError",
    "Readable",
    "StorageError",
    "StorageFullError",
    "Store",
    "StoreSettings",
    "TooLargeError",
    "make_store",
]


@dataclass(frozen=True)
class StoreSettings:
    """What the site's settings say about the store."""

    kind: str  # one of STORES
    folder: Path  # the blobs on this machine


STORES: Mapping[str, Callable[[StoreSettings], Store]] = {
    "disk": lambda settings: DiskStore(settings.folder),
}


def make_store(settings: StoreSettings) -> Store:
    if settings.kind not in STORES:
        raise ValueError(f"No store is called {settings.kind!r}. Known: {', '.join(STORES)}.")
    return STORES[settings.kind](settings)
