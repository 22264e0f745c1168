"""A small library to try modules of, and real children in place of the language model."""

from pathlib import Path

import pytest

from composer.playground import runner, selectors
from composer.playground.loaded_bases import LoadedBases
from composer.playground.models import TryOut
from composer.playground.selectors import Requester
from composer.playground.services import tryout_ask
from composer.playground.tasks import run_tryout
from hub_site.jobs.children import Launcher
from hub_site.jobs.sandbox import Limits
from tests.factories import make_module

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def queued_ids(monkeypatch):
    """The ids that would have been queued; nothing reaches the broker."""
    ids = []
    monkeypatch.setattr(run_tryout, "delay", ids.append)
    return ids


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch):
    """Nobody answers while a page or the API waits, so there is nothing to wait for."""
    monkeypatch.setattr("composer.playground.views.WAIT_S", 0)
    monkeypatch.setattr("composer.playground.api.WAIT_S", 0)


@pytest.fixture
def module(base, bob):
    return make_module(bob, "upper")


@pytest.fixture
def ask_it(alice, module):
    """Ask Bob's module something, as Alice; changed as the test says."""

    def put(text: str = "apple", *, requester: Requester | None = None, **changes) -> TryOut:
        target = changes.pop("target", None) or selectors.target_of_version(module.current)
        return tryout_ask(requester=requester or Requester(alice), target=target, text=text, **changes)

    return put


@pytest.fixture(scope="session")
def fake_jobs_launcher():
    launcher = Launcher(
        preload="tests.composer.playground.fake_answers",
        call="tests.composer.playground.fake_answers:run",
        root=ROOT,
        threads=1,
    )
    yield launcher
    launcher.stop()


@pytest.fixture
def loaded_bases(fake_jobs_launcher, data_folder, monkeypatch):
    """Room for two bases, whose children do what the question says."""
    room = LoadedBases(data_folder / "residents", fake_jobs_launcher, Limits(memory_mb=512), most=2)
    monkeypatch.setattr(runner, "loaded_bases", lambda: room)
    yield room
    room.unload_all()
    assert list((data_folder / "residents").glob("*")) == []


@pytest.fixture
def run(loaded_bases):
    """Do what the worker does with a question."""

    def answer(tryout: TryOut) -> TryOut:
        runner.tryout_run(tryout.pk)
        tryout.refresh_from_db()
        return tryout

    return answer
