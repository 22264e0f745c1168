"""A disk in front of another place that keeps files: what is not here is fetched again, and checked."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from modules_registry.storage.base import AlteredBlobError, MissingBlobError, Readable, do_nothing
from modules_registry.storage.disk import DiskStore

OPENINGS_MAX = 3  # a file may be evicted again between its arrival and its opening


class CachedStore(DiskStore):
    """A subclass says in `restore` how a file comes here."""

    def open(self, sha256: str, *, check: bool = False) -> BinaryIO:
        for _ in range(OPENINGS_MAX):
            try:
                file = super().open(sha256, check=check)
            except (MissingBlobError, AlteredBlobError) as error:
                self._restore_after(error, sha256, do_nothing)
            else:
                with suppress(OSError):  # a disk that takes no changes keeps nobody from reading
                    self.touch(sha256)
                return file
        raise MissingBlobError(sha256)

    def fetch(
        self, sha256: str, path: Path, *, check: bool = False, on_piece: Callable[[], None] = do_nothing
    ) -> None:
        try:
            super().fetch(sha256, path, check=check, on_piece=on_piece)
        except (MissingBlobError, AlteredBlobError) as error:
            self._restore_after(error, sha256, on_piece)
            super().fetch(sha256, path, check=check, on_piece=on_piece)
        with suppress(FileNotFoundError):  # evicted a moment ago
            self.touch(sha256)

    def _restore_after(
        self, error: MissingBlobError | AlteredBlobError, sha256: str, on_piece: Callable[[], None]
    ) -> None:
        try:
            self.restore(sha256, on_piece=on_piece)
        except MissingBlobError:  # it is nowhere else: what is wrong with it here is the news
            raise error from None


class Watched:
    """A stream whose reader is told of each piece, so that it can look up meanwhile."""

    def __init__(self, stream: Readable, on_piece: Callable[[], None]) -> None:
        self.stream, self.on_piece = stream, on_piece

    def read(self, count: int, /) -> bytes:
        self.on_piece()
        return self.stream.read(count)
