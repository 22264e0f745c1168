"""The store in front of a Hub: the local disk first; what was evicted there is fetched again, and checked."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from modules_registry.storage.base import (
    AlteredBlobError,
    Blob,
    MissingBlobError,
    RemoteAlteredError,
    RemoteStoreFile,
    TooLargeError,
    do_nothing,
)
from modules_registry.storage.disk import DiskStore
from modules_registry.storage.remote_client import RemoteStoreClient

OPENINGS_MAX = 3  # a file may be evicted again between its arrival and its opening


class RemoteStore(DiskStore):
    """Files are put on the disk, published from there by a job, and from then on the disk is a cache."""

    def __init__(
        self, folder: Path, remote: RemoteStoreClient, locate: Callable[[str], RemoteStoreFile | None]
    ) -> None:
        super().__init__(folder)
        self.remote, self.locate = remote, locate

    def open(self, sha256: str) -> BinaryIO:
        for _ in range(OPENINGS_MAX):
            try:
                file = super().open(sha256)
            except MissingBlobError:
                self.restore(sha256)
            else:
                with suppress(OSError):  # a disk that takes no changes keeps nobody from reading
                    os.utime(file.fileno())
                return file
        raise MissingBlobError(sha256)

    def fetch(
        self, sha256: str, path: Path, *, check: bool = False, on_piece: Callable[[], None] = do_nothing
    ) -> None:
        try:
            super().fetch(sha256, path, check=check, on_piece=on_piece)
        except (MissingBlobError, AlteredBlobError) as error:
            if self.locate(sha256) is None:
                raise error
            self.restore(sha256)
            super().fetch(sha256, path, check=check, on_piece=on_piece)
        with suppress(FileNotFoundError):  # evicted a moment ago
            self.touch(sha256)

    def restore(self, sha256: str) -> None:
        file = self.locate(sha256)
        if file is None:
            raise MissingBlobError(sha256)
        with self.remote.open(file) as incoming:
            try:
                self._keep(incoming, max_bytes=file.size_bytes, expected=sha256)
            except (AlteredBlobError, TooLargeError) as error:
                raise RemoteAlteredError(file.path, file.repo_id) from error

    def by_last_use(self) -> list[Blob]:
        """All files on this machine, the one that nobody has used for longest first."""
        used: list[tuple[float, Blob]] = []
        for blob in self.iter():
            with suppress(FileNotFoundError):  # deleted while we looked
                used.append((self._path(blob.sha256).stat().st_mtime, blob))
        return [blob for _, blob in sorted(used, key=lambda pair: pair[0])]
