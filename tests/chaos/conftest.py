"""What the chaos tests share: real workers as processes, and a record of how often each thing was tried.

Usually each test tries a few seeded points; under --long all of them, and the counts go to results.json.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as site_settings
from django.db import connection
from django.db.models.functions import Now

from benchmarks.machine import machine
from composer.core.spec.examples import Example
from composer.models import Composition
from composer.run import runner
from hub_site.embedded.processes import wait_for
from hub_site.jobs.models import FINISHED, Status
from tests.composer.conftest import SHOTS, ask, base, done, modules, no_flushing, wakes  # noqa: F401  fixtures
from tests.composer.playground.conftest import (  # noqa: F401  fixtures
    ask_it,
    fake_jobs_launcher,
    loaded_bases,
    module,
    queued_ids,
)
from tests.composer.playground.conftest import run as run_it  # noqa: F401  a fixture
from tests.conftest import TESTS_ARE_LONG

RESULTS = Path(__file__).parent / "results.json"
READY_TIMEOUT_S = 60


def times(usual: int, long: int) -> int:
    """How often a test tries something."""
    return long if TESTS_ARE_LONG else usual


@pytest.fixture
def record(request) -> Callable[..., None]:
    """Add what this test found to the result file, under its name, with the machine; only under --long."""

    def write(**found: object) -> None:
        if not TESTS_ARE_LONG:
            return
        name = request.node.name.removeprefix("test_").replace("_", " ")
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results["machine"] = machine()
        results[name] = found | {"date": time.strftime("%Y-%m-%d", time.gmtime())}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    return write


class WorkerProcess:
    """tests.chaos.worker on the tests' database."""

    def __init__(self, data: Path, log: Path, *options: str, **changes: str) -> None:
        database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hub_site.settings.test",
            "DATABASE_URL": database.geturl(),
            "HUB_DATA": str(data),
            "HUB_COMPOSE_MEMORY_MB": "512",
            "PYTHONPATH": str(site_settings.BASE_DIR),
            **changes,
        }
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", *options],
                env=environment, cwd=site_settings.BASE_DIR, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def is_ready(self) -> bool:
        return "ready" in self.printed

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_worker(data_folder, tmp_path) -> Iterator[Callable[..., WorkerProcess]]:
    workers: list[WorkerProcess] = []

    def start(*options: str, **environment: str) -> WorkerProcess:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = WorkerProcess(data_folder, log, *options, **environment)
        workers.append(worker)
        assert wait_for(lambda: worker.is_ready, timeout_s=READY_TIMEOUT_S), worker.printed
        return worker

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def ask_for(ask, settings):  # noqa: F811
    """A queued composition whose child does the named fake job."""
    settings.HUB_COMPOSITIONS_UNFINISHED_MAX = 1000

    def request(fake_job: str, *, is_quick: bool = True, **changes) -> Composition:
        seed = Composition.objects.count()
        composition = ask(examples=[Example(fake_job, "done"), *SHOTS], seed=seed, **changes)
        Composition.objects.filter(pk=composition.pk).update(is_quick=is_quick)
        return composition

    return request


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait for it, with a sweeper that comes often; what is put off is due at once."""

    def look() -> bool:
        runner.sweep()
        Composition.objects.filter(status=Status.QUEUED, due_at__gt=Now()).update(due_at=Now())
        return condition()

    return wait_for(look, timeout_s=timeout_s)


def all_finished() -> bool:
    return not Composition.objects.exclude(status__in=FINISHED).exists()
