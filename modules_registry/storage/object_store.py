"""The store in an object storage that many machines share: each has a disk with the files it used last.

A file is in the storage before it is here, so that the disk of a machine may be lost, and every machine can
fetch what another one stored.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modules_registry.storage.base import (
    AlteredBlobError,
    Blob,
    MissingBlobError,
    Readable,
    StorageError,
    TooLargeError,
    do_nothing,
)
from modules_registry.storage.cached import CachedStore, Watched
from modules_registry.storage.disk import PIECE_BYTES, DiskStore, typed_disk_errors
from modules_registry.storage.object_client import ObjectClient

LOOK_EVERY_S = 0.1  # whether another one has fetched a file
ASK_EVERY_S = 2.0  # whether it can: the storage may be away, and who fetches may wait for it longer
IN_USE_S = 60.0  # a file that was used so recently stays, however full the cache is: somebody may be at it


class ObjectStore(CachedStore):
    """Files by sha256 in a bucket, and those used last on this machine."""

    def __init__(self, folder: Path, objects: ObjectClient) -> None:
        super().__init__(folder)
        self.objects = objects
        self.here = DiskStore(folder)  # this machine alone

    def put(self, stream: Readable, *, max_bytes: int) -> Blob:
        return self._keep(stream, max_bytes, before_settling=self.objects.upload)

    def require_answer(self) -> None:
        self.objects.look_into_bucket()

    def restore(self, sha256: str, *, on_piece: Callable[[], None] = do_nothing) -> None:
        """Fetch the file from the bucket; if that has other bytes, or none, send it what is whole here."""
        before = self._inode(sha256)
        with self._alone(sha256, on_piece):
            if self._inode(sha256) in (None, before):  # else another one has fetched it meanwhile
                self._restore(sha256, on_piece)

    def _restore(self, sha256: str, on_piece: Callable[[], None]) -> None:
        try:
            self._download(sha256, on_piece)
        except (MissingBlobError, AlteredBlobError):
            if not self._is_whole_here(sha256, on_piece):
                raise
            path = self._path(sha256)
            self.objects.upload(path, Blob(sha256, path.stat().st_size))

    def address(self, sha256: str, *, disposition: str, content_type: str) -> str | None:
        return self.objects.signed_address(sha256, disposition=disposition, content_type=content_type)

    def exists(self, sha256: str) -> bool:
        return self.objects.size_of(sha256) is not None

    def delete(self, sha256: str) -> None:
        self.objects.delete(sha256)
        self.here.delete(sha256)

    def iter(self) -> Iterator[Blob]:
        return self.objects.iter()

    def verify(self) -> Iterator[str]:
        """Read the whole bucket. An altered file of this machine is removed: it can be fetched again."""
        for sha256 in self.here.verify():
            self.here.delete(sha256)
        for blob in self.iter():
            try:
                with self.objects.open(blob.sha256) as incoming:
                    self._require_same(blob.sha256, incoming)
            except MissingBlobError:
                continue  # deleted while we looked
            except AlteredBlobError:
                yield blob.sha256

    def sweep(self, *, older_than_s: float) -> int:
        return super().sweep(older_than_s=older_than_s) + self.objects.sweep(older_than_s=older_than_s)

    def send(self, sha256: str) -> bool:
        """Let the bucket have a file that only this machine has; returns whether it was sent."""
        if self.exists(sha256):
            return False
        path = self._path(sha256)
        if not self._is_whole_here(sha256, do_nothing):
            raise AlteredBlobError(sha256)
        self.objects.upload(path, Blob(sha256, path.stat().st_size))
        return True

    def make_room(self, limit_bytes: int) -> int:
        """Remove files of this machine, least recently used first, until the rest fits; return how many.

        Args:
            limit_bytes: what may stay. Files of the last minute stay in any case, and so do those that a job
                has in its folder: their bytes would stay there.
        """
        files, latest, removed = self._by_last_use(), time.time() - IN_USE_S, 0
        excess = sum(found.st_size for _, found in files) - limit_bytes
        for sha256, found in files:
            if excess <= 0 or found.st_mtime > latest:
                break
            if found.st_nlink == 1:
                self.here.delete(sha256)
                excess -= found.st_size
                removed += 1
        return removed

    @contextmanager
    def _alone(self, sha256: str, on_piece: Callable[[], None]) -> Iterator[None]:
        """Let one at a time on this machine fetch a file, and look up while another one does."""
        self.objects.waiting.begin()
        with typed_disk_errors():
            self.unfinished.mkdir(parents=True, exist_ok=True)
            path = self.unfinished / f"{sha256}.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            asked_s = time.monotonic()
            while not take_lock(descriptor):
                on_piece()
                time.sleep(LOOK_EVERY_S)
                if time.monotonic() - asked_s > ASK_EVERY_S:
                    self.require_answer()
                    asked_s = time.monotonic()
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _inode(self, sha256: str) -> int | None:
        """Which file this machine has; None for none."""
        with suppress(FileNotFoundError):
            return self._path(sha256).stat().st_ino
        return None

    def _download(self, sha256: str, on_piece: Callable[[], None]) -> None:
        with self.objects.open(sha256) as incoming:
            try:
                self._keep(Watched(incoming, on_piece), max_bytes=incoming.size_bytes, expected=sha256)
            except TooLargeError as error:
                raise AlteredBlobError(sha256) from error

    def _is_whole_here(self, sha256: str, on_piece: Callable[[], None]) -> bool:
        with suppress(StorageError):
            with self.here.open(sha256) as file:
                self._require_same(sha256, Watched(file, on_piece))
            return True
        return False

    def _require_same(self, sha256: str, stream: Readable) -> None:
        """Hold the bytes of a stream against a sha256. Raises AlteredBlobError."""
        digest = hashlib.sha256()
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise AlteredBlobError(sha256)


def take_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
