"""Counting right answers, and what may be concluded from the count."""

import pytest

from composer.core.evaluate import (
    accuracy,
    is_exact_match,
    is_reference_match,
    sign_test,
    verdict_left_out,
    verdict_on_held_out,
    wilson_interval,
)
from composer.core.examples import Example


def test_exact_match_is_strict_but_for_outer_white_space():
    assert is_exact_match(" chat\n", "chat")
    assert not is_exact_match("Chat", "chat")
    assert not is_exact_match("chat.", "chat")
    assert is_reference_match("Chat.", "chat")


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [(0, 100, 0.0, 0.0370), (50, 100, 0.4038, 0.5962), (10, 10, 0.7225, 1.0)],
)
def test_wilson_intervals_are_those_of_the_tables(n_correct, n, low, high):
    assert wilson_interval(n_correct, n) == pytest.approx((low, high), abs=1e-4)


def test_five_wins_of_five_are_just_beyond_luck_and_four_are_not():
    assert sign_test(5, 0) == pytest.approx(1 / 32)
    assert sign_test(4, 0) == pytest.approx(1 / 16)
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 1) == pytest.approx(5 / 16)


EXAMPLES = [Example(str(i), "yes") for i in range(20)]


def right(n: int) -> list[str]:
    return ["yes"] * n + ["no"] * (len(EXAMPLES) - n)


@pytest.mark.parametrize(
    ("composed", "single", "zero_shot", "decision"),
    [(15, 2, 0, "use"), (15, 14, 0, "single"), (2, 1, 0, "none"), (0, 0, 0, "none"), (20, 20, 20, "none")],
)
def test_the_verdict_follows_the_held_out_examples(composed, single, zero_shot, decision):
    answers = {"composed": right(composed), "best_single": right(single), "zero_shot": right(zero_shot)}
    verdict = verdict_on_held_out(answers, EXAMPLES, "alice/m")
    assert verdict.decision == decision
    assert f"{accuracy(right(composed), EXAMPLES).percent:.0f} %" in verdict.text


@pytest.mark.parametrize(
    ("composed", "single", "lora", "decision", "words"),
    [
        (0.2, 1.0, 1.1, "use", "looks useful"),
        (0.95, 1.0, 1.1, "single", "does about as well"),
        (1.2, 1.0, 1.1, "single", "does better"),
        (1.2, 1.4, 1.0, "train", "does better"),
        (1.9, 2.0, 2.1, "none", "No clear gain"),
    ],
)
def test_without_held_out_examples_the_left_out_losses_decide(composed, single, lora, decision, words):
    losses = {"composed": composed, "best_single": single, "lora_on_shots": lora, "zero_shot": 2.0}
    verdict = verdict_left_out(losses, "alice/m")
    assert verdict.decision == decision
    assert words in verdict.text
    assert "no held-out examples" in verdict.text
