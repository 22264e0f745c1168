"""Which modules may be composed, and what is said of the others."""

from dataclasses import replace

from modules_registry.core.compatibility import Base, ModuleFacts, reason_not_composable, reasons_against

T5 = Base("google/flan-t5-large", "0613663d0d48ea86ba8cb3d7a44f0f65dc596a2a")
FRENCH = ModuleFacts("alice/french", T5.name, None, rank=8, scaling=2.0, targets=("q", "v"))
UPPER = replace(FRENCH, name="alice/upper")


def codes(*modules: ModuleFacts, factor_by_factor: bool) -> dict[str, list[str]]:
    found = reasons_against(modules, T5, factor_by_factor=factor_by_factor)
    return {name: [reason.code for reason in reasons] for name, reasons in found.items()}


def test_equal_modules_fit_every_method():
    for factor_by_factor in (True, False):
        assert codes(FRENCH, UPPER, factor_by_factor=factor_by_factor) == {
            "alice/french": [],
            "alice/upper": [],
        }


def test_a_module_of_another_base_never_fits():
    other = replace(UPPER, base="gpt2")
    assert codes(FRENCH, other, factor_by_factor=False) == {"alice/french": [], "alice/upper": ["other_base"]}
    (reason,) = reasons_against([other], T5, factor_by_factor=False)["alice/upper"]
    assert reason.message == "It was trained on gpt2, not on google/flan-t5-large."


def test_a_module_of_another_revision_of_the_base_does_not_fit():
    assert codes(replace(FRENCH, revision="v2"), factor_by_factor=False) == {
        "alice/french": ["other_revision"]
    }
    for revision in (None, "main", T5.revision):
        assert codes(replace(FRENCH, revision=revision), factor_by_factor=False) == {"alice/french": []}


def test_the_exact_sum_takes_any_rank_scaling_and_targets():
    odd = replace(UPPER, rank=4, scaling=0.5, targets=("k",))
    assert codes(FRENCH, odd, factor_by_factor=False) == {"alice/french": [], "alice/upper": []}


def test_the_product_of_sums_names_everything_that_differs_from_the_most():
    digits = replace(FRENCH, name="alice/digits")
    odd = replace(UPPER, rank=4, scaling=0.5, targets=("k", "q"))
    found = reasons_against([odd, FRENCH, digits], T5, factor_by_factor=True)
    assert found["alice/french"] == found["alice/digits"] == ()
    assert [reason.message for reason in found["alice/upper"]] == [
        "Its rank is 4; the others have 8.",
        "Its scaling, alpha / r, is 0.5; the others have 2.",
        "It adapts k, q; the others adapt q, v.",
    ]


def test_the_order_of_the_targets_does_not_matter():
    swapped = replace(UPPER, targets=("v", "q"))
    assert codes(FRENCH, swapped, factor_by_factor=True) == {"alice/french": [], "alice/upper": []}


def test_modules_of_another_base_have_no_say_in_what_most_have():
    others = [replace(FRENCH, name=f"bob/{number}", base="gpt2", rank=4) for number in range(3)]
    found = codes(FRENCH, *others, factor_by_factor=True)
    assert found["alice/french"] == []
    assert found["bob/0"] == ["other_base"]


def test_no_module_fits_when_none_is_of_the_base():
    assert codes(replace(FRENCH, base="gpt2"), factor_by_factor=True) == {"alice/french": ["other_base"]}


def test_a_module_whose_base_is_not_in_the_library_is_not_composable_here():
    library = {T5.name: T5}
    assert reason_not_composable(FRENCH, library) is None
    missing = reason_not_composable(replace(FRENCH, base="bob/own"), library)
    assert missing is not None
    assert (missing.code, missing.message) == (
        "base_not_in_library",
        "Its base model bob/own is not in this site's library.",
    )
    moved = reason_not_composable(replace(FRENCH, revision="v2"), library)
    assert moved is not None
    assert moved.code == "other_revision"
