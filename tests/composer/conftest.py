"""A small library to compose from, and compositions in it."""

from pathlib import Path

import pytest

from composer.core.spec.examples import Example
from composer.models import Composition
from composer.request.services import composition_request
from composer.run.job_folder import job_description
from composer.run.results import keep_result
from composer.run.tasks import wake_worker
from hub_site.jobs import leases
from tests.composer.fake_jobs import write_result
from tests.factories import make_base, make_module

SHOTS = [Example("apple", "APPLE"), Example("pear", "PEAR"), Example("plum", "PLUM")]
HELD_OUT = [Example("fig", "FIG"), Example("lime", "LIME")]


@pytest.fixture
def wakes(monkeypatch):
    """One entry for each time that a worker would have been woken; nothing reaches the broker."""
    woken = []
    monkeypatch.setattr(wake_worker, "delay", lambda: woken.append(True))
    return woken


@pytest.fixture
def base(db, tmp_path):
    return make_base(tmp_path / "base")


@pytest.fixture
def modules(base, bob):
    """Three modules that fit the base, published by Bob."""
    return [make_module(bob, name, seed=seed) for seed, name in enumerate(("first", "fruit", "upper"))]


@pytest.fixture
def ask(alice, base, modules):
    """Ask for a composition as Alice; changed as the test says."""

    def request(**changes):
        asked = {
            "owner": alice,
            "name": "Fruit in capitals",
            "base": base.name,
            "method": "exact",
            "budget": 30,
            "seed": 7,
            "examples": SHOTS,
            "held_out": HELD_OUT,
        }
        return composition_request(**(asked | changes))

    return request


@pytest.fixture
def demo_bundle(settings) -> Path:
    """The bundle that comes with the site."""
    return Path(settings.HUB_DEMO_BUNDLE)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    """What survives a power cut is tested with the store; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def done(ask, tmp_path):
    """A finished composition of Alice's, its files and report from the stand-in for the core."""

    def finish(**changes):
        composition = leases.claim(Composition, ask(**changes).pk, worker="tests")
        folder = tmp_path / f"result-{composition.pk}"
        folder.mkdir()
        job = job_description(composition, list(composition.modules.select_related("version")))
        write_result(folder / "out", job)
        keep_result(composition, folder / "out")
        composition.refresh_from_db()
        return composition

    return finish
