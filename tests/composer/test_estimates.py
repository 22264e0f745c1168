"""How long a composition would take, said before it is asked for."""

from dataclasses import replace

import pytest

from composer.models import Composition
from composer.timing.estimates import (
    LOADED_BYTES_S,
    MODULE_LOADED_S,
    USUAL_SHARES,
    Amounts,
    answers,
    duration_words,
    estimate,
    seconds_by_stage,
    slowness,
)
from composer.timing.queue import is_quick
from tests.composer.conftest import HELD_OUT
from tests.factories import make_base

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

FEW = Amounts(n_shots=5, n_held_out=0, n_modules=3, budget=600, baselines="always")
MORE = Amounts(n_shots=5, n_held_out=0, n_modules=3, budget=3000, baselines="always")


@pytest.mark.parametrize(
    ("low_s", "high_s", "words"),
    [
        (0.2, 0.9, "about 1 s"),
        (7.2, 15.4, "7–15 s"),
        (33, 71, "35–70 s"),
        (80, 175, "1–3 minutes"),
        (40 * 60, 80 * 60, "40–80 minutes"),
        (3 * 3600, 9 * 3600, "3–9 hours"),
    ],
)
def test_a_duration_is_said_as_one_would_say_it(low_s, high_s, words):
    assert duration_words(low_s, high_s) == words


def test_without_a_measurement_it_is_a_guess_from_the_base_s_size_and_says_so(base):
    few, more = (estimate(base, "auto", amounts) for amounts in (FEW, MORE))
    base.parameters *= 1000
    larger = estimate(base, "auto", MORE)
    assert few.high_s < more.high_s < larger.high_s
    assert "a rough guess" in few.basis


SAME = Amounts(n_shots=5, n_held_out=10, n_modules=3, budget=100, baselines="always")


def measure(composition, **seconds):
    """As if this composition had taken so long."""
    whole = {"load": 2.0, "screen": 3.0, "search": 10.0, "prune": 1.0, "export": 1.0, "evaluate": 4.0}
    composition.report |= {"seconds": whole | seconds, "n_shots": 5, "n_held_out": 10}
    composition.save()


def test_a_finished_composition_on_the_base_is_what_it_goes_by(base, done):
    measure(done(method="exact", budget=100))
    found = estimate(base, "exact", SAME)
    assert found.likely_s == pytest.approx(21.0)
    assert found.low_s < 21.0 < found.high_s
    assert "1 composition measured here" in found.basis
    for seed, search_s in ((1, 30.0), (2, 11.0)):
        measure(done(method="exact", budget=100, seed=seed), search=search_s)
    assert estimate(base, "exact", SAME).likely_s == pytest.approx(22.0)  # by the middle one
    assert estimate(base, "lorahub", SAME).n_measured == 0


def test_a_larger_search_takes_longer_in_proportion_to_what_its_size_says(base, done):
    guessed = {n: seconds_by_stage(base, "exact", replace(SAME, budget=n))[0]["search"] for n in (100, 300)}
    assert guessed[300] == pytest.approx(3 * guessed[100])
    for seed in (1, 2, 3):
        measure(done(method="exact", budget=100, seed=seed), search=4.0)
    by_budget = {n: seconds_by_stage(base, "exact", replace(SAME, budget=n))[0] for n in (100, 300)}
    assert by_budget[100]["search"] == pytest.approx(4.0)
    assert by_budget[300]["search"] == pytest.approx(3 * by_budget[100]["search"])
    assert by_budget[300]["load"] == by_budget[100]["load"]


@pytest.mark.parametrize("cut", [{"stop_reason": "time"}, {"seconds": {"load": 2.0, "search": 10.0}}])
def test_one_that_was_cut_short_by_its_deadline_tells_nothing(base, done, cut):
    composition = done(method="exact", budget=100)
    whole = {"load": 2.0, "screen": 3.0, "search": 10.0, "export": 1.0, "evaluate": 4.0}
    composition.report |= {"seconds": whole, "n_shots": 5, "n_held_out": 10, "stop_reason": ""} | cut
    composition.save()
    same = Amounts(n_shots=5, n_held_out=10, n_modules=3, budget=100, baselines="always")
    assert estimate(base, "exact", same).n_measured == 0


def test_an_optimizer_that_takes_its_whole_budget_is_guessed_as_it_is(base):
    by_fits, _ = seconds_by_stage(base, "exact", SAME)
    by_optimizer, _ = seconds_by_stage(base, "exact", replace(SAME, search="ngopt", n_modules=0))
    asked_s = by_optimizer["search"] - by_fits["search"] / USUAL_SHARES["search"]
    assert asked_s == pytest.approx(100 * 0.005, rel=0.1)


def test_one_without_held_out_examples_says_nothing_of_one_with_them(base, done):
    composition = done(method="exact", budget=100)
    composition.report |= {
        "seconds": {"load": 0.3, "screen": 0.1, "search": 1.0, "export": 0.1, "evaluate": 13.0},
        "n_shots": 2,
        "n_held_out": 0,
    }
    composition.save()
    with_them, without = (
        Amounts(n_shots=2, n_held_out=n_held_out, n_modules=3, budget=100, baselines="always")
        for n_held_out in (100, 0)
    )
    assert estimate(base, "exact", with_them).n_measured == 0
    assert estimate(base, "exact", without).n_measured == 1


@pytest.mark.parametrize(("baselines", "answering"), [("none", 1), ("always", 8), ("thorough", 10), ("?", 8)])
def test_everyone_who_answers_the_held_out_examples_takes_time(baselines, answering):
    assert answers(replace(SAME, baselines=baselines)) == answering * 15


USUAL = Amounts(n_shots=5, n_held_out=100, n_modules=20, budget=400, baselines="always")


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("ties", {"budget": 10_000}),  # took two minutes with 26 modules
        ("exact", {"budget": 10_000, "search": "ngopt"}),  # a method that has a quick search, by a slow one
        ("lorahub", {"budget": 1000, "n_modules": 200}),  # 0.2 s for the optimizer to propose a candidate
        ("dare_ties", {"budget": 2000, "n_held_out": 0}),  # searched again without each fold of the examples
        ("linear", {"budget": 2000, "objective": "exact_match"}),  # answers instead of losses
        ("auto", {"characters": 8000}),  # long texts
        ("cat-layers", {"budget": 450, "search": "nevergrad:OnePlusOne", "n_modules": 100}),
        ("ties_svd", {"budget": 450, "n_modules": 100}),  # merges whole updates for each candidate
    ],
)
@pytest.mark.parametrize("is_measured", [False, True])
def test_what_may_take_long_is_no_quick_job(base, done, method, changes, is_measured):
    """Whether the base's size tells it, or a job of the usual size that was measured here."""
    base.parameters = 1_000_000  # as the demo world's
    if is_measured:
        usual = {"search": changes.get("search", "auto"), "objective": changes.get("objective", "loss")}
        composition = done(
            method=method, budget=40, held_out=HELD_OUT if changes.get("n_held_out", 1) else [], **usual
        )
        composition.report |= {
            "seconds": {"load": 0.5, "screen": 0.2, "search": 0.6, "export": 0.2, "evaluate": 1.0},
            "n_shots": 5,
            "n_held_out": changes.get("n_held_out", 100),
        }
        composition.save()
    found = estimate(base, method, replace(USUAL, **changes))
    assert found.n_measured == is_measured
    assert not is_quick(found)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("auto", {}), ("exact", {"budget": 1000}), ("cat", {"budget": 10_000}), ("ties", {"budget": 40})],
)
def test_what_is_quick_on_a_small_base_is_a_quick_job(base, method, changes):
    base.parameters = 1_000_000
    assert is_quick(estimate(base, method, replace(USUAL, **changes)))


def test_a_search_is_estimated_by_those_of_its_own_kind_alone(base, done):
    measure(done(method="exact", budget=100))  # by Gauss-Newton
    amounts = Amounts(n_shots=5, n_held_out=10, n_modules=3, budget=100, baselines="always")
    told = {
        name: estimate(base, "exact", replace(amounts, search=name)).n_measured
        for name in ("auto", "gauss-newton", "ngopt", "nevergrad:CMA")
    }
    assert told == {"auto": 1, "gauss-newton": 1, "ngopt": 0, "nevergrad:CMA": 0}
    assert estimate(base, "exact", replace(amounts, objective="exact_match")).n_measured == 0


def test_an_unmeasured_base_is_as_much_slower_as_the_measured_one_nearest_in_size(base, done, tmp_path):
    near, far = make_base(tmp_path / "near", name="tests/near"), make_base(tmp_path / "far", name="tests/far")
    near.parameters, far.parameters = 13_000_000, 90_000_000
    near.save()
    far.save()
    base.parameters = 10_000_000
    usual = estimate(base, "auto", FEW)
    for other, times in ((near, 3.0), (far, 50.0)):
        composition = done(method="exact", budget=100, seed=int(times))
        Composition.objects.filter(pk=composition.pk).update(base=other, slowness=times)
    found = estimate(base, "auto", FEW)
    assert found.n_measured == 0
    loading_s = 4 * base.parameters / LOADED_BYTES_S  # twice: it is written and loaded again; no slower
    not_computed = 2 * loading_s + FEW.n_modules * MODULE_LOADED_S
    assert found.likely_s - not_computed == pytest.approx(3.0 * (usual.likely_s - not_computed), rel=0.01)


@pytest.mark.parametrize(
    ("times", "slower"), [(2, 0.04), (1 / 2, 0.04), (10, 0.215), (40, 1.0), (1 / 40, 1.0)]
)
def test_the_less_two_bases_are_alike_in_size_the_less_one_says_of_the_other(
    base, done, tmp_path, times, slower
):
    other = make_base(tmp_path / "other", name="tests/other")
    composition = done(method="exact", budget=100)
    Composition.objects.filter(pk=composition.pk).update(base=other, slowness=0.04)
    other.parameters, base.parameters = 10_000_000, round(10_000_000 * times)
    other.save()
    assert slowness(base) == pytest.approx(slower, rel=0.05)
