"""The store on a local disk: blobs/ab/cd/abcd…, each file written aside, flushed, and renamed into place."""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modules_registry.storage.base import (
    SHA256,
    AlteredBlobError,
    Blob,
    MissingBlobError,
    Readable,
    StorageFaultError,
    StorageFullError,
    TooLargeError,
    do_nothing,
    require_sha256,
)

PIECE_BYTES = 1024**2
READ_ONLY = 0o444
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_checked: dict[
    Path, tuple[int, int, int]
] = {}  # files that this process found whole, as `_identity` tells them


class DiskStore:
    """Files in a folder of one file system."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder
        self.unfinished = folder / "unfinished"  # in the same file system, so that a rename is atomic

    def put(self, stream: Readable, *, max_bytes: int) -> Blob:
        return self._keep(stream, max_bytes)

    def _keep(
        self,
        stream: Readable,
        max_bytes: int,
        expected: str | None = None,
        before_settling: Callable[[Path, Blob], None] = lambda path, blob: None,
    ) -> Blob:
        with self._unfinished_file() as (descriptor, unfinished):
            blob = _copy(stream, descriptor, max_bytes)
            if expected not in (None, blob.sha256):
                raise AlteredBlobError(str(expected))
            with typed_disk_errors():
                os.fchmod(descriptor, READ_ONLY)
                os.fsync(descriptor)
            before_settling(unfinished, blob)
            with typed_disk_errors():
                self._settle(unfinished, blob.sha256)
        return blob

    def require_answer(self) -> None:
        with typed_disk_errors(), suppress(FileNotFoundError):  # nothing was put yet
            os.scandir(self.blobs).close()

    def open(self, sha256: str, *, check: bool = False) -> BinaryIO:
        stored = self._path(sha256)
        if check:
            _require_whole(stored)
        return _open(stored)

    def fetch(
        self, sha256: str, path: Path, *, check: bool = False, on_piece: Callable[[], None] = do_nothing
    ) -> None:
        stored = self._path(sha256)
        if not self._is_here(sha256):
            raise MissingBlobError(sha256)
        if check:
            _require_whole(stored, on_piece)
        with typed_disk_errors():
            path.unlink(missing_ok=True)
            _link_or_copy(stored, path)

    def touch(self, sha256: str) -> None:
        """Note that the file is used now; that makes it no other file."""
        stored = self._path(sha256)
        was_checked = _checked.get(stored) == _identity(stored)
        os.utime(stored)
        if was_checked:
            _checked[stored] = _identity(stored)

    def restore(self, sha256: str, *, on_piece: Callable[[], None] = do_nothing) -> None:
        raise MissingBlobError(sha256)  # this disk is the only place there is

    def address(self, sha256: str, *, disposition: str, content_type: str) -> str | None:
        return None

    def exists(self, sha256: str) -> bool:
        return self._is_here(sha256)

    def _is_here(self, sha256: str) -> bool:
        with typed_disk_errors():
            return self._path(sha256).is_file()

    def delete(self, sha256: str) -> None:
        with typed_disk_errors():
            self._path(sha256).unlink(missing_ok=True)

    def iter(self) -> Iterator[Blob]:
        for path in self._files():
            with suppress(FileNotFoundError):  # deleted while we looked
                yield Blob(path.name, path.stat().st_size)

    def _files(self) -> Iterator[Path]:
        for path in self.blobs.glob("??/??/*"):
            if SHA256.fullmatch(path.name):
                yield path

    def verify(self) -> Iterator[str]:
        for blob in self.iter():
            with suppress(MissingBlobError):
                if _sha256_of(self._path(blob.sha256)) != blob.sha256:
                    yield blob.sha256

    def by_last_use(self) -> list[Blob]:
        """All files on this machine, the one that nobody has used for longest first."""
        return [Blob(name, found.st_size) for name, found in self._by_last_use()]

    def _by_last_use(self) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        for path in self._files():
            with suppress(FileNotFoundError):  # deleted while we looked
                found.append((path.name, path.stat()))
        return sorted(found, key=lambda pair: pair[1].st_mtime)

    def sweep(self, *, older_than_s: float) -> int:
        latest, swept = time.time() - older_than_s, 0
        for path in self.unfinished.glob("*"):
            with suppress(FileNotFoundError):  # its put has just ended
                if path.stat().st_mtime <= latest:
                    path.unlink()
                    swept += 1
        return swept

    def _path(self, sha256: str) -> Path:
        require_sha256(sha256)
        return self.blobs / sha256[:2] / sha256[2:4] / sha256

    @contextmanager
    def _unfinished_file(self) -> Iterator[tuple[int, Path]]:
        with typed_disk_errors():
            self.unfinished.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.unfinished)
        path = Path(name)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)  # gone already, once it was renamed

    def _settle(self, unfinished: Path, sha256: str) -> None:
        """Give a complete file its name. The same bytes again take the place of the old, and heal them."""
        path = self._path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(path)
        _flush_folder(path.parent)


@contextmanager
def typed_disk_errors() -> Iterator[None]:
    """What the disk says, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError from error
        raise StorageFaultError(error.strerror or str(error)) from error


@contextmanager
def _reading(stored: Path) -> Iterator[None]:
    """As `typed_disk_errors`, for a stored file that may be gone: MissingBlobError."""
    with typed_disk_errors():
        try:
            yield
        except FileNotFoundError as error:
            raise MissingBlobError(stored.name) from error


def _open(stored: Path) -> BinaryIO:
    with _reading(stored):
        return stored.open("rb")


def _copy(stream: Readable, descriptor: int, max_bytes: int) -> Blob:
    """Write a stream to a file. What reading it raises is the caller's, and passes through."""
    digest, size_bytes = hashlib.sha256(), 0
    while piece := stream.read(PIECE_BYTES):
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise TooLargeError(max_bytes)
        digest.update(piece)
        with typed_disk_errors():
            _write(descriptor, piece)
    return Blob(digest.hexdigest(), size_bytes)


def _write(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _link_or_copy(stored: Path, path: Path) -> None:
    """A hard link shares the page cache; other file systems, and some containers, need a copy."""
    try:
        path.hardlink_to(stored)
    except OSError:
        try:
            shutil.copyfile(stored, path)
            path.chmod(READ_ONLY)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _require_whole(stored: Path, on_piece: Callable[[], None] = do_nothing) -> None:
    """Hold a file against its name. Raises AlteredBlobError."""
    with _reading(stored):
        identity = _identity(stored)
    if _checked.get(stored) == identity:
        return
    if _sha256_of(stored, on_piece) != stored.name:
        raise AlteredBlobError(stored.name)
    _checked[stored] = identity


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written to: its size, its time and its inode."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256_of(path: Path, on_piece: Callable[[], None] = do_nothing) -> str:
    digest = hashlib.sha256()
    with _open(path) as file:
        while piece := _read_piece(file):
            digest.update(piece)
            on_piece()
    return digest.hexdigest()


def _read_piece(file: BinaryIO) -> bytes:
    with typed_disk_errors():
        return file.read(PIECE_BYTES)


def _flush_folder(folder: Path) -> None:
    """A rename lasts only once its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
