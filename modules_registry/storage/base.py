"""Where module files are kept: one interface, whatever stands behind it.

A file is known by the sha256 of its bytes and by nothing else. No name or path of a client comes near.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Blob:
    """Bytes in the store."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class RemoteStoreFile:
    """Where a file lies on the Hub. Nothing there changes: the commit is pinned."""

    repo_id: str
    commit_id: str
    path: str
    size_bytes: int


@dataclass(frozen=True)
class ObjectStoreSettings:
    """The bucket that the machines of this site share, and who we are there."""

    bucket: str
    endpoint: str | None = None  # None: Amazon's
    public_endpoint: str | None = None  # as visitors reach it; None: they do not
    region: str = "us-east-1"
    key: str | None = None  # None: what the machine is given, as an instance's role
    secret: str | None = field(default=None, repr=False)


def do_nothing() -> None:
    """What is called between two pieces, where nobody needs to look up."""


@dataclass(frozen=True)
class Waiting:
    """How to wait for a server that keeps files.

    Attributes:
        connect_s: seconds for a connection, and for each piece that is sent.
        read_s: seconds without a byte of the answer.
        tries: of one question.
        breaks_max: connections that break one after the other while a file comes, without a byte in between.
        begin: called before each question.
    """

    connect_s: float
    read_s: float
    tries: int
    breaks_max: int
    begin: Callable[[], None] = do_nothing


LONG_WAITING = Waiting(connect_s=5, read_s=30, tries=3, breaks_max=5)  # of workers and commands
SHORT_WAITING = Waiting(connect_s=3, read_s=5, tries=1, breaks_max=1)  # of who answers a visitor


class Readable(Protocol):
    """What put() takes: an open file, an upload, anything that gives bytes until there are none."""

    def read(self, count: int, /) -> bytes: ...


class Store(Protocol):
    """Immutable files by sha256. Every failure is a StorageError, and leaves nothing half-made behind."""

    def put(self, stream: Readable, *, max_bytes: int) -> Blob:
        """Keep the bytes of a stream. The same bytes again change nothing."""

    def require_answer(self) -> None:
        """Raise a StorageError unless the place where the files are answers, with a fault or too slowly."""

    def open(self, sha256: str, *, check: bool = False) -> BinaryIO:
        """Open a file for reading; the caller closes it. `check` as in `fetch`."""

    def fetch(
        self, sha256: str, path: Path, *, check: bool = False, on_piece: Callable[[], None] = do_nothing
    ) -> None:
        """Put the file at a local path, replacing what is there. Read-only: it may be the stored file itself.

        With check, its bytes are first held against its sha256, unless this process did so before and neither
        its size, its time nor its inode has changed since.

        Args:
            on_piece: called between two pieces while it is read for the check; it may raise to end it.
        """

    def restore(self, sha256: str, *, on_piece: Callable[[], None] = do_nothing) -> None:
        """Get a file anew from where else it is kept; MissingBlobError when that is nowhere.

        Args:
            on_piece: called between two pieces while it comes; it may raise to end it.
        """

    def address(self, sha256: str, *, disposition: str, content_type: str) -> str | None:
        """Where a visitor may fetch the file for the next minutes; None where only we can hand it out.

        Args:
            disposition: the Content-Disposition that the answer there has.
        """

    def exists(self, sha256: str) -> bool:
        """Is it in the store? Of a store with a Hub behind it: is it on this machine?"""

    def delete(self, sha256: str) -> None:
        """Forget a file. What a Hub behind the store has stays there. Deleting what is not there is fine."""

    def iter(self) -> Iterator[Blob]:
        """All files of which `exists` is true, in no order."""

    def verify(self) -> Iterator[str]:
        """The sha256 of each file whose bytes are no longer those it is named after. Reads everything."""

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what killed puts left behind so long ago; returns how many."""


class StorageError(Exception):
    """The store cannot do what was asked. The message is for the person who asked."""

    code = "storage_failed"


class StorageFullError(StorageError):
    """No space is left."""

    code = "disk_full"
    sentence = "The site's disk is full."

    def __init__(self) -> None:
        super().__init__(
            "The site's disk is full, so nothing was stored. Try again later or tell its operator."
        )


class StorageFaultError(StorageError):
    """The disk does not do what it should: it is broken, read-only, not mounted, or not ours to use.

    Args:
        what_happened: for everybody, within a sentence.
        look_at: the settings that its operator should look at.
    """

    code = "machine_fault"
    sentence = "A machine of the site has a fault."

    def __init__(self, what_happened: str, *, look_at: str = "") -> None:
        self.what_happened, self.look_at = what_happened, look_at
        super().__init__(
            f"The site's store of files has a fault ({what_happened}). "
            "Try again in a minute; if it stays, tell the site's operator."
        )


class StoreUnreachableError(StorageError):
    """It will pass: the object storage is busy, restarting, or not reachable just now."""

    code = "store_unreachable"
    sentence = "The site's store of files could not be reached."

    def __init__(self, what_happened: str) -> None:
        super().__init__(f"{self.sentence} It {what_happened}. Try again in a minute.")


class TooLargeError(StorageError):
    """A stream went on beyond what its caller allows."""

    code = "file_too_large"

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(
            f"The file is larger than {max_bytes / 1e6:,.1f} MB, the most that is accepted here."
        )


class MissingBlobError(StorageError):
    """Nothing is stored under this sha256."""

    code = "file_missing"
    sentence = "A stored file is missing."

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__("A stored file is missing. Tell the server's operator to run verify_storage.")


class AlteredBlobError(StorageError):
    """What is stored under this sha256 has other bytes."""

    code = "file_altered"
    sentence = "A stored file was altered."

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__("A stored file was altered. Tell the server's operator to run verify_storage.")


class RemoteStoreError(StorageError):
    """The Hub behind this site did not do what was asked."""

    code = "hub_refused"


class RemoteUnavailableError(RemoteStoreError):
    """It will pass: the Hub is busy, restarting, or not reachable just now."""

    code = "hub_unavailable"

    def __init__(self, what_happened: str, *, retry_after_s: int = 0) -> None:
        self.retry_after_s = retry_after_s  # the least the Hub asks us to wait
        self.sentence = f"The Hub that keeps the files {what_happened}."
        super().__init__(f"{self.sentence} Try again in a few minutes.")


# They pass, or the operator mends them: a file that is missing or altered on this machine may be whole on
# another one or in a backup, while no other copy comes of one that the Hub altered (RemoteAlteredError).
# Each has a `sentence` that says the fault alone, for the page of a job that waits.
DISK_FAULTS: tuple[type[StorageError], ...] = (StorageFullError, StorageFaultError, StoreUnreachableError)
LOCAL_FAULTS = (*DISK_FAULTS, MissingBlobError, AlteredBlobError)
PASSING_ERRORS = (*LOCAL_FAULTS, RemoteUnavailableError)


class RemoteGoneError(RemoteStoreError):
    """A repository, or a commit of it, is no longer where it was."""

    code = "hub_gone"

    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id
        super().__init__(
            f"{repo_id} is no longer on the Hub, or this site may not see it. Tell the server's operator."
        )


class RemoteAlteredError(RemoteStoreError):
    """The Hub has other bytes than those we gave it. They are not kept and not handed out."""

    code = "hub_altered"

    def __init__(self, path: str, repo_id: str) -> None:
        super().__init__(
            f"The Hub has other bytes for {path} in {repo_id} than were stored. Tell the server's operator."
        )


def require_sha256(text: str) -> str:
    """A sha256 becomes part of a path, so nothing else may pass for one."""
    if not SHA256.fullmatch(text):
        raise ValueError(f"Not a sha256: {text[:80]!r}")
    return text
