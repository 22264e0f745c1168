"""Machines of one site: each role a process with a data folder and a network of its own, which can be cut.

Database, broker and object storage are reached by TCP with passwords; files of a machine are on no other one.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection

from hub_site.embedded.processes import wait_for
from hub_site.embedded.valkey import program
from tests.chaos.conftest import WorkerProcess
from tests.composer.test_resuming import ask  # noqa: F401  a fixture
from tests.object_storage import ObjectStorage, bucket, object_storage  # noqa: F401  fixtures
from tests.relay import Relay
from tests.served_site import ServedSite, free_port

BROKER_PASSWORD = "a password of the tests"
READY_TIMEOUT_S = 120  # torch is imported


class Broker:
    """Valkey behind a password, on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", BROKER_PASSWORD]
        words += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen([str(program()), *words], stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def broker(tmp_path_factory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


class Machine:
    """A data folder, and ways to the servers that nobody else uses."""

    def __init__(self, root: Path, storage: ObjectStorage, bucket_name: str, broker: Broker) -> None:
        self.root, self.data, self.storage, self.bucket_name = root, root / "data", storage, bucket_name
        self.data.mkdir(parents=True)
        self.database = Relay(socket_of_the_database())
        self.broker = Relay(("127.0.0.1", broker.port))
        self.files = Relay(("127.0.0.1", storage.port))
        self.relays = (self.database, self.broker, self.files)
        self.changes: dict[str, str] = {}  # of the environment
        (root / "broker-password").write_text(f"{BROKER_PASSWORD}\n")
        (root / "storage-secret").write_text(f"{storage.settings('any').secret}\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HUB_DATA": str(self.data),
            "DATABASE_URL": f"postgresql://hub@127.0.0.1:{self.database.port}/"
            f"{connection.settings_dict['NAME']}",
            "HUB_DATABASE_POOL": "0",
            "CELERY_BROKER_URL": f"redis://127.0.0.1:{self.broker.port}/0",
            "CELERY_BROKER_PASSWORD_FILE": str(self.root / "broker-password"),
            "HUB_STORE": "s3",
            "HUB_STORE_ENDPOINT": f"http://127.0.0.1:{self.files.port}",
            "HUB_STORE_BUCKET": self.bucket_name,
            "HUB_STORE_KEY": str(self.storage.settings("any").key),
            "HUB_STORE_SECRET_FILE": str(self.root / "storage-secret"),
            **self.changes,
        }

    def cut(self) -> None:
        for relay in self.relays:
            relay.cut()

    def restore(self) -> None:
        for relay in self.relays:
            relay.restore()

    def close(self) -> None:
        for relay in self.relays:
            relay.close()

    @property
    def files_here(self) -> set[str]:
        return {path.name for path in (self.data / "blobs").glob("??/??/*")}


def socket_of_the_database() -> Path:
    folder = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query).get("host", [""])[0]
    if not folder.startswith("/"):
        pytest.skip("NOT TESTED: the database of these tests is another machine's")
    return Path(folder) / ".s.PGSQL.5432"


@pytest.fixture(autouse=True)
def shared(settings, bucket):  # noqa: F811
    """This process is one of the machines: its files go into the storage too."""
    settings.HUB_STORE = "s3"
    settings.HUB_STORE_OBJECTS = {
        name: getattr(bucket, name)
        for name in ("bucket", "endpoint", "public_endpoint", "region", "key", "secret")
    }
    return bucket


@pytest.fixture
def new_machine(shared, tmp_path, object_storage, broker) -> Iterator[Callable[[str], Machine]]:  # noqa: F811
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Machine:
            machine = Machine(tmp_path / name, object_storage, shared.bucket, broker)
            stack.callback(machine.close)
            return machine

        yield make


@pytest.fixture
def start_web(shared) -> Iterator[Callable[[Machine], ServedSite]]:
    with contextlib.ExitStack() as stack:

        def start(machine: Machine) -> ServedSite:
            site = ServedSite(machine.data, **machine.environment | {"HUB_DATABASE_POOL": "8"})
            stack.callback(site.stop)
            site.start()
            return site

        yield start


@pytest.fixture
def start_worker(shared) -> Iterator[Callable[..., WorkerProcess]]:
    """A compose worker on a machine, woken by messages, with the real core."""
    with contextlib.ExitStack() as stack:

        def start(machine: Machine, **environment: str) -> WorkerProcess:
            log = machine.root / f"worker-{len(list(machine.root.glob('worker-*')))}.log"
            settings = machine.environment | {"HUB_COMPOSE_MEMORY_MB": "4096", **environment}
            worker = WorkerProcess(machine.data, log, "--celery", "--core", **settings)
            stack.callback(worker.stop)
            assert wait_for(lambda: worker.is_ready, timeout_s=READY_TIMEOUT_S), worker.printed
            return worker

        yield start


def run_python(program: str, machine: Machine) -> str:
    """What a program of the site prints on that machine."""
    setup = "import django; django.setup()\n"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "hub_site.settings.test", **machine.environment}
    done = subprocess.run(
        [sys.executable, "-c", setup + program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
