"""How long a composition would take, said before it is asked for."""

import pytest

from composer.estimates import Amounts, duration_words, estimate

pytestmark = pytest.mark.usefixtures("bells")  # nothing here reaches a broker

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


def test_a_finished_composition_on_the_base_is_what_it_goes_by(base, done):
    composition = done(method="exact", budget=100)
    composition.report |= {
        "seconds": {"load": 2.0, "screen": 3.0, "search": 10.0, "export": 1.0, "evaluate": 4.0},
        "n_shots": 5,
        "n_held_out": 10,
    }
    composition.save()
    same = Amounts(n_shots=5, n_held_out=10, n_modules=3, budget=100, baselines="always")
    found = estimate(base, "exact", same)
    assert found.low_s < 20.0 < found.high_s
    assert "1 composition measured here" in found.basis
    twice = Amounts(n_shots=5, n_held_out=10, n_modules=3, budget=200, baselines="always")
    assert (estimate(base, "exact", twice).high_s - found.high_s) / 1.5 == pytest.approx(10.0)
    assert estimate(base, "lorahub", same).n_measured == 0


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
