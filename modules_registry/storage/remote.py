"""The store in front of a Hub: the local disk first; what was evicted there is fetched again, and checked."""

from collections.abc import Callable
from pathlib import Path

from modules_registry.storage.base import (
    AlteredBlobError,
    MissingBlobError,
    RemoteAlteredError,
    RemoteStoreFile,
    TooLargeError,
    do_nothing,
)
from modules_registry.storage.cached import CachedStore, Watched
from modules_registry.storage.remote_client import RemoteStoreClient


class RemoteStore(CachedStore):
    """Files are put on the disk, published from there by a job, and from then on the disk is a cache."""

    def __init__(
        self, folder: Path, remote: RemoteStoreClient, locate: Callable[[str], RemoteStoreFile | None]
    ) -> None:
        super().__init__(folder)
        self.remote, self.locate = remote, locate

    def restore(self, sha256: str, *, on_piece: Callable[[], None] = do_nothing) -> None:
        file = self.locate(sha256)
        if file is None:
            raise MissingBlobError(sha256)
        with self.remote.open(file) as incoming:
            try:
                self._keep(Watched(incoming, on_piece), max_bytes=file.size_bytes, expected=sha256)
            except (AlteredBlobError, TooLargeError) as error:
                raise RemoteAlteredError(file.path, file.repo_id) from error
