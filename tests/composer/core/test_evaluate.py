"""Counting right answers, and what may be concluded from the count."""

import pytest

from composer.core.evaluation.verdict import (
    LeftOutLosses,
    is_ahead_left_out,
    mean_interval,
    sign_test,
    t_quantile,
    verdict_left_out,
    verdict_on_held_out,
    verdict_without_baselines,
)
from composer.core.spec.examples import Example
from composer.core.spec.metrics import accuracy, is_exact_match, is_reference_match, wilson_interval


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


def right(n: int, of: int = len(EXAMPLES)) -> list[str]:
    return ["yes"] * n + ["no"] * (of - n)


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
    ("uniform", "decision", "words"),
    [
        (13, "use", "Use the composition"),
        (17, "use", "uniform average 85 %"),
        (20, "none", "No search is needed"),
    ],
)
def test_a_composition_may_do_about_as_well_as_the_uniform_average(uniform, decision, words):
    answers = {"composed": right(15), "uniform": right(uniform), "zero_shot": right(0)}
    verdict = verdict_on_held_out(answers, EXAMPLES, "alice/m")
    assert verdict.decision == decision
    assert words in verdict.text


@pytest.mark.parametrize(
    ("composed", "prompted", "in_context", "decision", "words"),
    [
        (15, 16, 5, "use", "Use the composition."),  # about as well: the shorter prompt is taken
        (10, 18, 5, "prompt", "Use the composition with the examples in its prompt."),
        (14, 19, 12, "prompt", "with the examples in its prompt."),  # alone it is not surely ahead
        (10, 18, 17, "none", "No composition is needed: the examples in the prompt"),
        (5, 20, 20, "none", "No composition is needed: the examples in the prompt"),
        (15, 3, 5, "use", "its own prompt 15 %"),
        (0, 0, 0, "none", "No sure gain"),
    ],
)
def test_a_composition_may_be_best_with_the_examples_in_its_prompt(
    composed, prompted, in_context, decision, words
):
    answers = {
        "composed": right(composed),
        "composed_in_context": right(prompted),
        "in_context": right(in_context),
        "zero_shot": right(0),
    }
    verdict = verdict_on_held_out(answers, EXAMPLES, "alice/m")
    assert (verdict.decision, words in verdict.text) == (decision, True)


def test_held_out_answers_that_nothing_was_compared_with_are_told_and_no_more_are_asked_for():
    verdict = verdict_without_baselines(right(15), EXAMPLES)
    assert verdict.decision == "unmeasured"
    assert "On 20 held-out examples the composition answers 75 % correctly" in verdict.text
    assert "Add" not in verdict.text
    assert "On 1 held-out example the" in verdict_without_baselines(["yes"], EXAMPLES[:1]).text


TOKENS = (3.0, 4.0, 5.0, 4.0, 3.0)


def left_out(loss: float, *differences: float) -> LeftOutLosses:
    """Five examples at about this loss in nats per token, each off by its own difference."""
    losses = [loss + d for d in differences or (0.1, -0.1, 0.0, 0.1, -0.1)]
    return LeftOutLosses(tuple(x * n for x, n in zip(losses, TOKENS, strict=True)), TOKENS)


@pytest.mark.parametrize(
    ("composed", "single", "lora", "decision", "words"),
    [
        (0.2, 1.0, 1.1, "use", "looks useful"),
        (1.0, 1.0, 1.1, "single", "does about as well"),
        (1.2, 1.0, 1.1, "single", "does better"),
        (1.2, 1.4, 1.0, "train", "does better"),
        (1.9, 2.0, 2.1, "none", "No clear gain"),
    ],
)
def test_without_held_out_examples_the_left_out_ones_decide(composed, single, lora, decision, words):
    known = {
        "composed": left_out(composed),
        "best_single": left_out(single, 0.0, 0.0, 0.2, -0.1, 0.1),
        "lora_on_shots": left_out(lora),
        "zero_shot": left_out(2.0, 0.0, -0.2, 0.1, 0.1, 0.0),
    }
    verdict = verdict_left_out(known, "alice/m")
    assert verdict.decision == decision
    assert words in verdict.text
    assert "no held-out examples" in verdict.text
    assert verdict.text.count("95 % interval") == 2


def test_a_lead_that_rests_on_one_example_is_no_reason_to_use_a_composition():
    even, lucky = left_out(1.0, 0, 0, 0, 0, 0), left_out(1.0, 0.05, -0.05, 0.05, -0.9, 0.05)
    assert sum(lucky.chances) > sum(even.chances)
    assert not is_ahead_left_out(lucky, even)
    assert is_ahead_left_out(left_out(0.6, 0.05, -0.05, 0.05, -0.2, 0.05), even)


@pytest.mark.parametrize(("uniform", "decision"), [(0.22, "use"), (0.18, "use"), (0.05, "none")])
def test_the_uniform_average_stands_in_a_composition_s_way_only_when_it_is_ahead(uniform, decision):
    known = {"composed": left_out(0.2), "uniform": left_out(uniform, 0, 0, 0, 0, 0), "zero_shot": left_out(7)}
    assert verdict_left_out(known, "alice/m").decision == decision


def test_who_gets_nothing_right_is_not_recommended_however_much_lower_its_loss():
    known = {"composed": left_out(6.4), "lora_on_shots": left_out(6.3), "zero_shot": left_out(18.9)}
    verdict = verdict_left_out(known, "alice/m")
    assert verdict.decision == "none"
    assert "-0" not in verdict.text


def test_a_composition_is_not_recommended_over_a_module_that_gets_everything_right():
    right_too = left_out(0.003, 0, 0, 0, 0, 0)
    known = {"composed": left_out(0.001, 0, 0, 0, 0, 0), "best_single": right_too, "zero_shot": left_out(7)}
    verdict = verdict_left_out(known, "alice/m")
    assert verdict.decision == "single"
    assert "does about as well" in verdict.text


def test_a_far_lower_loss_is_ahead_where_one_example_disagrees():
    ours, theirs = left_out(0.2, -0.1, -0.1, 1.2, -0.1, -0.1), left_out(2.0, 0.5, 0.5, -1.9, 0.5, 0.5)
    assert ours.chances[2] < theirs.chances[2]
    assert is_ahead_left_out(ours, theirs)


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.86, 4, 1.248),
        (0.975, 63, 1.998),
    ],
)
def test_student_s_t_is_that_of_the_tables(p, freedom, expected):
    assert t_quantile(p, freedom) == pytest.approx(expected, rel=0.01)


def test_the_interval_of_a_mean_is_student_s():
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.975)
    assert (low, high) == pytest.approx((3 - 1.963, 3 + 1.963), rel=0.01)  # 2.776 · 1.581 / √5


# --- the tuned composition --------------------------------------------------------


@pytest.mark.parametrize(
    ("tuned", "lora", "decision", "advised"),
    [
        (20, 2, "tune", "tuned"),  # five right more than the composition and none less: 1 / 32
        (19, 2, "use", "composed"),  # four more may be luck
        (15, 2, "use", "composed"),
        (20, 17, "unsure", "tuned"),  # ahead of the composition, and not surely of the LoRA
        (20, 19, "train", "lora_on_shots"),  # which does about as well
    ],
)
def test_tuning_is_advised_where_it_is_surely_better_than_the_composition_and_all_others(
    tuned, lora, decision, advised
):
    answers = {
        "composed": right(15), "tuned": right(tuned), "lora_on_shots": right(lora), "zero_shot": right(0),
    }  # fmt: skip
    verdict = verdict_on_held_out(answers, EXAMPLES, "alice/m")
    assert (verdict.decision, verdict.advised) == (decision, advised)


@pytest.mark.parametrize(
    ("right_answers", "advised", "words"),
    [
        # composition, tuned, with examples in its prompt; base, in context, LoRA; of eight
        ((7, 8, 8, 0, 4, 4), "tuned", "tuned on the examples is better than the base alone, but these"),
        ((8, 8, 8, 0, 5, 0), "composed", "whether it is better than the examples in the prompt. On 8"),
        ((3, 3, 8, 0, 5, 3), "composed_in_context", "The composition with the examples in its prompt is"),
    ],
)
def test_a_lead_that_may_be_luck_is_neither_no_gain_nor_about_as_well(right_answers, advised, words):
    names = ("composed", "tuned", "composed_in_context", "zero_shot", "in_context", "lora_on_shots")
    answers = {name: right(n, 8) for name, n in zip(names, right_answers, strict=True)}
    verdict = verdict_on_held_out(answers, EXAMPLES[:8], "alice/m")
    assert (verdict.decision, verdict.advised) == ("unsure", advised)
    assert words in verdict.text


def test_a_lead_over_the_base_that_may_be_luck_is_no_sure_gain():
    answers = {"composed": right(8, 8), "in_context": right(4, 8), "zero_shot": right(4, 8)}  # 1 / 16
    verdict = verdict_on_held_out(answers, EXAMPLES[:8], "alice/m")
    assert (verdict.decision, verdict.advised) == ("none", None)
    assert verdict.text.startswith("No sure gain over the base alone.")


def test_without_held_out_examples_no_lora_is_advised_over_what_leads_it():
    known = {
        "composed": left_out(1.9),
        "tuned": left_out(0, 3.5, 0.5, 2.5, 0.5, 2.4),
        "lora_on_shots": left_out(1.6, 0, 0, 0, 0, 0),
        "zero_shot": left_out(4.0),
    }
    verdict = verdict_left_out(known, "alice/m")
    assert (verdict.decision, verdict.advised) == ("unsure", "tuned")
    assert "cannot tell whether it is better than a LoRA trained on the examples" in verdict.text


@pytest.mark.parametrize(("tuned", "decision"), [(0.05, "tune"), (0.19, "use"), (0.3, "use")])
def test_without_held_out_examples_left_out_ones_decide_on_tuning(tuned, decision):
    known = {"composed": left_out(0.2), "tuned": left_out(tuned, 0, 0, 0, 0, 0), "zero_shot": left_out(7)}
    assert verdict_left_out(known, "alice/m").decision == decision


def test_a_tuned_composition_that_is_behind_is_never_what_is_advised_instead():
    answers = {"composed": right(10), "tuned": right(12), "best_single": right(12), "zero_shot": right(0)}
    verdict = verdict_on_held_out(answers, EXAMPLES, "alice/m")
    assert (verdict.decision, verdict.advised) == ("single", "best_single")
