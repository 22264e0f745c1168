"""A small library to compose from, and compositions in it."""

from pathlib import Path

import pytest

from composer.examples import Pair
from composer.services import composition_request
from tests.factories import make_base, make_module

SHOTS = [Pair("apple", "APPLE"), Pair("pear", "PEAR"), Pair("plum", "PLUM")]
HELD_OUT = [Pair("fig", "FIG"), Pair("lime", "LIME")]


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
            "base": base,
            "method": "exact",
            "budget": 30,
            "seed": 7,
            "shots": SHOTS,
            "held_out": HELD_OUT,
        }
        return composition_request(**(asked | changes))

    return request


@pytest.fixture
def demo_bundle(settings) -> Path:
    """The bundle that comes with the site."""
    return Path(settings.HUB_DEMO_BUNDLE)
