"""A backup of the whole site into one file, while the site runs.

The database is read first, in one snapshot; then every file that this snapshot names. Files never change, and
none is removed meanwhile (`BACKUP_LOCK`), so that the archive is the site at the moment of the snapshot.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, connection, transaction

from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from hub_site.common.readiness import APPLIED
from hub_site.operations.archive import (
    DATABASE,
    MANIFEST,
    SECRETS,
    AlteredError,
    ArchiveWriter,
    Manifest,
    manifest_text,
    written_archive,
)
from hub_site.operations.postgres_tools import (
    count_rows,
    find_tool,
    running_tool,
    server_major,
    site_database,
)
from modules_registry.blobs import BACKUP_LOCK, store
from modules_registry.maintenance import stored_file_models
from modules_registry.storage import DISK_FAULTS, RemoteUnavailableError, StorageError

LOCK_WAIT_S = 60  # for those who are removing files this moment
TELL_EVERY_S = 10.0
FAULTS: tuple[type[StorageError], ...] = (
    *DISK_FAULTS,
    RemoteUnavailableError,
)  # of the store as a whole: a backup without its files is none


def site_backup(path: Path, say: Callable[[str], None] = lambda text: None) -> Manifest:
    """Write the archive and return what it holds.

    Files that are missing or altered in the store are left out and listed: `verify_storage` says whose they
    are.

    Raises:
        Refusal: it could not be written; then no file is left behind.
    """
    path = path.absolute()
    tool = find_tool("pg_dump", server_major())
    with (
        written_archive(path) as archive,
        files_kept(),
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        with snapshot() as snapshot_id:
            dump = Path(folder) / DATABASE
            write_dump(tool, snapshot_id, dump)
            made_at, rows, migrations = database_now().isoformat(), count_rows(), applied_migrations()
            files = stored_files()
        say(f"  the database: {sum(rows.values()):,} rows")
        database_sha256 = archive.add_database(dump)
        dump.unlink()
        archive.add_text(SECRETS, f"HUB_SECRET_KEY={settings.SECRET_KEY}\n")
        lacking = add_files(archive, files, say)
        manifest = Manifest(
            made_at, migrations, rows, database_sha256, archive.n_files, archive.n_bytes, lacking
        )
        archive.add_text(MANIFEST, manifest_text(manifest))
    return manifest


@contextmanager
def files_kept() -> Iterator[None]:
    """Nobody removes a stored file inside the context. The lock ends with the connection at the latest."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [BACKUP_LOCK])
        except OperationalError as error:
            raise Refusal("backup_runs", "Another backup is being made. Wait for its end.") from error
        finally:
            cursor.execute("RESET lock_timeout")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [BACKUP_LOCK])


@contextmanager
def snapshot() -> Iterator[str]:
    """All that is read inside the context, here and by who names this snapshot, is of one moment."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        yield cursor.fetchone()[0]


def write_dump(tool: Path, snapshot_id: str, dump: Path) -> None:
    command: list[str | Path] = [tool, "--format=custom", "--no-owner", "--no-privileges", "--no-comments"]
    command += [f"--snapshot={snapshot_id}", f"--dbname={site_database()}"]
    with dump.open("wb") as out, running_tool(command, stdout=out):
        pass


def applied_migrations() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"{APPLIED} ORDER BY app, name")
        last = {app: f"{app}.{name}" for app, name in cursor.fetchall()}
    return sorted(last.values())


def stored_files() -> dict[str, int]:
    """The size in bytes of each file that a row names, by its sha256."""
    files: dict[str, int] = {}
    for model in stored_file_models():
        files |= dict(model._default_manager.values_list("sha256", "size_bytes").iterator())
    return files


def add_files(archive: ArchiveWriter, files: dict[str, int], say: Callable[[str], None]) -> list[str]:
    """Add every file; return the sha256 of those that are missing or altered."""
    kept, lacking, told_s = store(), [], time.monotonic()
    for sha256, size_bytes in sorted(files.items()):
        try:
            with kept.open(sha256) as file:
                archive.add_blob(sha256, size_bytes, file)
        except FAULTS as error:
            raise Refusal(error.code, str(error)) from error
        except (AlteredError, StorageError):
            lacking.append(sha256)
        if time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            say(f"  {archive.n_files:,} of {len(files):,} files, {archive.n_bytes / 1e9:.1f} GB")
    return lacking
