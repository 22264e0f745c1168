"""A site from a backup: into an empty database and a store, whole or, of the database, not at all.

The files come first: a row that names a file shall find it, and a restore that was broken off in the middle
is simply done again.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from hub_site.common.errors import Refusal
from hub_site.embedded.folders import write_private
from hub_site.operations.archive import DATABASE, PIECE_BYTES, Archive, Manifest, opened_archive
from hub_site.operations.postgres_tools import (
    count_rows,
    find_tool,
    running_tool,
    server_major,
    site_database,
)
from modules_registry.blobs import has_shared_store, shared_store, store
from modules_registry.storage import StorageError

SECRETS_FILE = "secrets.env"  # of a site that `./hub up` runs
OTHER_KEY = (
    "sessions and private links of then are signed with another key: set HUB_SECRET_KEY to the one that "
    "`tar -xOf FILE secrets.env` prints"
)


def site_restore(path: Path, say: Callable[[str], None] = lambda text: None) -> Manifest:
    """Put the archive's files into the store and its rows into the database.

    Jobs that ran then are taken up again by the next worker, where they were. Migrate afterwards: the code
    may be newer than the backup.

    Raises:
        Refusal: the archive is not whole, the database is not empty, or something could not be written.
    """
    require_empty_database()
    with opened_archive(path.absolute()) as archive:
        say(f"  the backup of {archive.manifest.made_at[:16].replace('T', ' ')} UTC is whole")
        restore_files(archive)
        say(f"  {archive.manifest.n_files:,} files are in the store")
        restore_database(archive)
        require_rows(archive.manifest)
        say(f"  {sum(archive.manifest.rows.values()):,} rows are in the database")
        if not restore_key(archive):
            say(f"  {OTHER_KEY}")
        return archive.manifest


def require_empty_database() -> None:
    if count_rows():
        raise Refusal(
            "not_empty",
            "This database holds a site already, and a restore overwrites nothing. Stop the site and move "
            "its data folder away, or set HUB_DATA to a new one; with a Postgres of your own, name an empty "
            "database.",
        )


def restore_files(archive: Archive) -> None:
    if has_shared_store():
        shared_store().objects.make_bucket()
    kept = store()
    for member in archive.blobs.values():
        with archive.open(member.name) as file:
            try:
                kept.put(file, max_bytes=member.size)
            except StorageError as error:
                raise Refusal(error.code, str(error)) from error


def restore_database(archive: Archive) -> None:
    """All of it in one transaction."""
    tool = find_tool("pg_restore", server_major())
    command: list[str | Path] = [
        tool,
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        "--exit-on-error",
        "--single-transaction",
    ]
    command += [f"--dbname={site_database()}"]
    with (
        archive.open(DATABASE) as dump,
        running_tool(command, stdin=subprocess.PIPE) as tool_process,
    ):
        assert tool_process.stdin is not None
        try:
            shutil.copyfileobj(dump, tool_process.stdin, PIECE_BYTES)
        except BrokenPipeError:  # it ended, and says why
            return


def require_rows(manifest: Manifest) -> None:
    """Hold the rows of each table against the manifest."""
    found = count_rows()
    if found != manifest.rows:
        tables = sorted(
            name for name in {*found, *manifest.rows} if found.get(name) != manifest.rows.get(name)
        )
        raise Refusal("rows_differ", f"The database has other rows than the backup in: {', '.join(tables)}.")


def restore_key(archive: Archive) -> bool:
    """Take over the key that signed the sessions and links of then, where the site keeps its own in a file.

    Returns whether the site signs with that key from its next start on.
    """
    path = Path(settings.HUB_DATA) / SECRETS_FILE
    if own_key() == archive.secrets:
        return True
    if not path.exists() or path.read_text(encoding="utf-8") != own_key():
        return False  # the operator gives the key by HUB_SECRET_KEY
    write_private(path, archive.secrets)
    return True


def own_key() -> str:
    return f"HUB_SECRET_KEY={settings.SECRET_KEY}\n"
