"""What can be composed with a module, by which rule, and exactly why not the others."""

import pytest

from modules_registry.fitting import fits_with, fitting_of, pairs_with
from modules_registry.models import BaseModel, Module, Version
from modules_registry.services import module_edit
from tests.factories import config_file, make_base, make_module, weights_file


@pytest.fixture
def library(base, bob, tmp_path):
    make_base(tmp_path / "other-base", name="tests/other")
    rank_four = {"config_file": config_file(r=4, lora_alpha=8), "weights_file": weights_file(rank=4, seed=2)}
    strong = {"config_file": config_file(lora_alpha=8), "weights_file": weights_file(seed=3)}
    elsewhere = {
        "config_file": config_file(base_model_name_or_path="tests/other"),
        "weights_file": weights_file(seed=4),
    }
    return {
        "same": make_module(bob, "same", seed=1),
        "rank-four": make_module(bob, "rank-four", **rank_four),
        "strong": make_module(bob, "strong", **strong),
        "elsewhere": make_module(bob, "elsewhere", **elsewhere),
    }


def by_rule(version, rule):
    found = Module.objects.published().filter(fits_with(version, rule)).exclude(pk=version.module_id)
    return set(found.values_list("name", flat=True))


def test_whole_updates_fit_at_any_rank_and_factors_only_at_the_same_shape(french, library):
    assert by_rule(french.current, "sum") == {"same", "rank-four", "strong"}
    assert by_rule(french.current, "factors") == {"same"}


def test_the_counts_are_those_of_the_filters_and_the_reasons_name_the_module(french, library, charlie):
    found = fitting_of(french.current, charlie)
    assert (found.why_none, found.by_sum, found.by_factors, found.elsewhere) == ("", 3, 1, 1)
    assert {(misfits.code, misfits.message, misfits.count) for misfits in found.misfits} == {
        ("other_rank", "Its rank is 4; alice/french has 2.", 1),
        ("other_scaling", "Its scaling, alpha / r, is 4; alice/french has 2.", 1),
    }


def test_each_pair_says_why_not(french, library):
    pairs = {pair.version.module.name: pair for pair in pairs_with(french.current, list(library.values()))}
    assert pairs["same"].fits == ["sum", "factors"]
    assert pairs["rank-four"].fits == ["sum"]
    (reason,) = pairs["elsewhere"].reasons["sum"]
    assert reason.message == "It was trained on tests/other, not on tests/tiny."


def test_another_revision_of_the_base_does_not_fit(french, library, charlie):
    Version.objects.filter(module__name="same").update(base=None, base_revision="f" * 40)
    found = fitting_of(french.current, charlie)
    assert (found.by_sum, found.by_factors) == (2, 0)
    revision = BaseModel.objects.get(name="tests/tiny").revision
    assert f"It was trained on revision {'f' * 40} of tests/tiny; the library has {revision}." in [
        misfits.message for misfits in found.misfits
    ]


def test_nothing_fits_a_module_that_cannot_be_composed_here(french, library, charlie):
    BaseModel.objects.filter(name="tests/tiny").delete()
    version = Version.objects.select_related("base", "module__namespace").get(pk=french.current_id)
    assert fitting_of(version, charlie).why_none == (
        "Its base model tests/tiny is not in this site's library."
    )
    assert by_rule(version, "sum") == set()


def test_private_modules_count_for_their_owner_alone(french, library, bob, charlie):
    module_edit(editor=bob, module=library["same"], private=True)
    assert fitting_of(french.current, charlie).by_factors == 0
    assert fitting_of(french.current, bob).by_factors == 1
