"""The file that a backup is: an uncompressed tar, so that any system can read it.

    database.dump        pg_dump's own format, for pg_restore
    secrets.env          the key that signs sessions and links
    blobs/ab/cd/abcd…    every stored file that the database names, by its sha256
    manifest.json        last: an archive without it was not finished

Weights do not compress; the dump is compressed already.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from hub_site.common.errors import Refusal

FORMAT = 1
DATABASE, SECRETS, MANIFEST, BLOBS = "database.dump", "secrets.env", "manifest.json", "blobs"
PIECE_BYTES = 1024**2
MANIFEST_BYTES_MAX = 256 * 1024**2
PRIVATE = 0o600


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        made_at: when the database was read, by its own clock; ISO 8601.
        migrations: the last one of each app, as "app.name".
        rows: how many each table has, by its name.
        database_sha256: of the dump.
        n_files, n_bytes: of the stored files.
        lacking: the sha256 of each file that a row names and that could not be copied.
    """

    made_at: str
    migrations: list[str]
    rows: dict[str, int]
    database_sha256: str
    n_files: int
    n_bytes: int
    lacking: list[str] = field(default_factory=list)
    format: int = FORMAT


class AlteredError(Exception):
    """A file's bytes are not those it is named after."""


class HashedFile:
    """A file that knows the sha256 of what was read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self.file.read(size)
        self.digest.update(piece)
        return piece

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()


class ArchiveWriter:
    """An archive while it is written."""

    def __init__(self, file: IO[bytes], tar: tarfile.TarFile) -> None:
        self.file, self.tar = file, tar
        self.n_files = self.n_bytes = 0

    def add_database(self, dump: Path) -> str:
        """Add the dump; return its sha256."""
        with dump.open("rb") as file:
            hashed = HashedFile(file)
            self._add(DATABASE, hashed, dump.stat().st_size)
            return hashed.sha256

    def add_text(self, name: str, text: str) -> None:
        content = text.encode()
        self._add(name, io.BytesIO(content), len(content))

    def add_blob(self, sha256: str, size_bytes: int, file: IO[bytes]) -> None:
        """Add a stored file.

        Raises:
            AlteredError: it has other bytes, and was left out.
        """
        began_at, hashed = self.tar.offset, HashedFile(file)
        try:
            self._add(blob_name(sha256), hashed, size_bytes)
        except OSError as error:
            if error.errno is not None:  # the archive's disk; else tarfile says that the file is too short
                raise
        if hashed.sha256 != sha256:
            self._go_back(began_at)
            raise AlteredError(sha256)
        self.n_files += 1
        self.n_bytes += size_bytes

    def _go_back(self, offset: int) -> None:
        """Let the next member take the place of what was written from here on."""
        self.file.seek(offset)
        self.file.truncate()
        self.tar.offset = offset

    def _add(self, name: str, file: Any, size_bytes: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size_bytes, PRIVATE
        self.tar.addfile(member, file)
        self.tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all, and asks for them no more


@contextmanager
def written_archive(path: Path) -> Iterator[ArchiveWriter]:
    """A new archive: whole or not at all, and for its owner's eyes alone.

    Raises:
        Refusal: a file of this name is there, or it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    if path.exists():
        raise Refusal("file_exists", f"{path} is there already. Name a new file.")
    try:
        unfinished.unlink(missing_ok=True)
        with open_private(unfinished) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                yield ArchiveWriter(file, tar)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        raise Refusal("not_written", f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def open_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE), "w+b")


@dataclass(frozen=True)
class Archive:
    """A finished archive that is open for reading."""

    tar: tarfile.TarFile
    manifest: Manifest
    members: dict[str, tarfile.TarInfo]

    @property
    def secrets(self) -> str:
        with self.open(SECRETS) as file:
            return file.read().decode()

    @property
    def blobs(self) -> dict[str, tarfile.TarInfo]:
        """Where each stored file is, by its sha256."""
        return {
            name.rpartition("/")[2]: member
            for name, member in self.members.items()
            if name.startswith(f"{BLOBS}/")
        }

    def open(self, name: str) -> IO[bytes]:
        file = self.tar.extractfile(self.members[name])
        assert file is not None  # only plain files are members
        return file


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """An archive, read once from its beginning to its end and found whole.

    Raises:
        Refusal: it is no archive of this site, not finished, or altered.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield checked(tar, path)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Refusal("not_read", f"{path} could not be read as a backup: {error}.") from error


def checked(tar: tarfile.TarFile, path: Path) -> Archive:
    members: dict[str, tarfile.TarInfo] = {}
    hashes: dict[str, str] = {}
    for member in tar:
        file = tar.extractfile(member) if member.isreg() else None
        if file is None or not is_known(member.name):
            raise Refusal("not_a_backup", f"{path} is no backup of this site: it holds {member.name[:80]!r}.")
        members[member.name], hashes[member.name] = member, sha256_of(file)
    if MANIFEST not in members:
        raise Refusal("not_finished", f"{path} is not whole: its writing was broken off. Take another one.")
    archive = Archive(tar, read_manifest(tar, members[MANIFEST]), members)
    require_whole(archive, hashes, path)
    return archive


def read_manifest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    file = tar.extractfile(member)
    assert file is not None
    told = json.loads(file.read(MANIFEST_BYTES_MAX))
    if told.get("format") != FORMAT:
        raise Refusal(
            "other_format", "This backup is of another version of the site. Restore it with that one."
        )
    return Manifest(**told)


def require_whole(archive: Archive, hashes: dict[str, str], path: Path) -> None:
    """Hold everything against its sha256."""
    blobs = archive.blobs
    is_whole = (
        all(hashes[member.name] == sha256 for sha256, member in blobs.items())
        and hashes.get(DATABASE) == archive.manifest.database_sha256
        and len(blobs) == archive.manifest.n_files
        and SECRETS in archive.members
    )
    if not is_whole:
        raise Refusal("altered", f"{path} was altered or is damaged. Take another one.")


def is_known(name: str) -> bool:
    return name in (DATABASE, SECRETS, MANIFEST) or name == blob_name(name.rpartition("/")[2])


def sha256_of(file: IO[bytes]) -> str:
    hashed = HashedFile(file)
    while hashed.read(PIECE_BYTES):
        pass
    return hashed.sha256


def blob_name(sha256: str) -> str:
    return f"{BLOBS}/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def manifest_text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=1) + "\n"
