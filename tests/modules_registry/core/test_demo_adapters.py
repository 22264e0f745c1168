"""The gate and the sketch on the adapters that come with the site."""

from pathlib import Path

import pytest

from modules_registry.core.adapter_config import read_config
from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.cards import check_card
from modules_registry.core.delta import open_delta
from modules_registry.core.gate import check_adapter
from modules_registry.core.sketch import similarity, sketch

BUNDLE = Path(__file__).parents[3] / "demo/bundle"
MODULES = sorted(path.name for path in (BUNDLE / "modules").iterdir())
TWO_SKILLS = [name for name in MODULES if "-" in name]  # "cloth-star" was trained on both at once


@pytest.fixture(scope="module")
def sketches():
    return {name: sketched(BUNDLE / "modules" / name) for name in MODULES}


def sketched(folder):
    config = read_config(folder / "adapter_config.json")
    with open_delta(folder / "adapter_model.safetensors", config) as layers:
        return sketch(layers)


@pytest.mark.parametrize("name", MODULES)
def test_a_demo_module_passes_for_the_demo_base(name):
    shapes = base_shapes_of(BUNDLE / "base/config.json", [BUNDLE / "base/model.safetensors"])
    folder = BUNDLE / "modules" / name
    facts = check_adapter(folder / "adapter_config.json", folder / "adapter_model.safetensors", shapes)
    assert (facts.base, facts.rank) == ("demo/tiny-t5", 8)
    assert check_card((folder / "README.md").read_bytes()).front_matter["base_model"] == facts.base


@pytest.mark.parametrize("name", TWO_SKILLS)
def test_a_module_of_two_skills_is_most_like_a_module_of_one_of_them(name, sketches):
    others = {other: similarity(sketches[name], sketches[other]) for other in MODULES if other != name}
    nearest = max(others, key=others.__getitem__)
    assert set(nearest.split("-")) & set(name.split("-"))
