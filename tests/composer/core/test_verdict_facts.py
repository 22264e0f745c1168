"""What stands beside the verdict: how good its advice is by itself, and what a question costs."""

import json
import math

import pytest

from composer.core import job
from composer.core.evaluation.quality import quality_left_out, quality_on_held_out
from composer.core.evaluation.verdict import LeftOutLosses, verdict_on_held_out
from composer.core.spec.examples import Example
from composer.core.spec.verdict_rule import quality_level, question_tokens, verdict_texts
from tests.composer.core.tiny import make_job

EXAMPLES = [Example(str(i), "yes") for i in range(30)]


def right(n):
    return ["yes"] * n + ["no"] * (len(EXAMPLES) - n)


@pytest.mark.parametrize(
    ("share", "low", "level"),
    [
        (0.0, 0.0, "weak"),
        (0.33, 0.19, "weak"),
        (0.49, 0.45, "weak"),
        (0.5, 0.33, "fair"),
        (0.79, 0.70, "fair"),
        (1.0, 0.44, "fair"),  # three of three
        (0.8, 0.65, "good"),
        (1.0, 0.57, "fair"),  # five of five
        (0.97, 0.83, "good"),
    ],
)
def test_a_level_follows_the_share_of_right_answers_and_good_needs_enough_of_them(share, low, level):
    assert quality_level(share, low) == level


def test_right_one_time_in_three_is_weak_however_far_behind_the_others_are():
    answers = {"composed": right(10), "best_single": right(0), "zero_shot": right(0)}
    assert verdict_on_held_out(answers, EXAMPLES, "alice/m").decision == "use"
    quality = quality_on_held_out("composed", "the composition", right(10), EXAMPLES)
    assert (quality.level, quality.share_percent) == ("weak", 33.33)
    assert quality.interval_percent == pytest.approx((19.23, 51.22), abs=0.01)
    assert quality.text == (
        "By itself it looks weak: with the composition 33 % of 30 held-out examples are answered correctly "
        "(95 % interval 19 to 51 %), so expect 49 to 81 % of its answers to be wrong."
    )


def test_one_held_out_example_is_spoken_of_in_the_singular():
    text = quality_on_held_out("composed", "it", right(0)[:1], EXAMPLES[:1]).text
    assert "0 % of 1 held-out example is answered correctly" in text


@pytest.mark.parametrize(
    ("n_right", "n", "level", "expect"),
    [
        (0, 2, "looks weak", "34 to 100 %"),
        (2, 2, "looks fair", "up to 66 %"),
        (15, 30, "looks fair", "33 to 67 %"),
        (9, 30, "is weak", "52 to 83 %"),
        (22, 30, "is fair", "14 to 44 %"),
        (30, 30, "is good", "up to 11 %"),
    ],
)
def test_the_interval_says_how_many_answers_to_expect_wrong(n_right, n, level, expect):
    text = quality_on_held_out("composed", "it", right(n_right)[:n], EXAMPLES[:n]).text
    assert text.startswith(f"By itself it {level}: ")
    assert text.endswith(f", so expect {expect} of its answers to be wrong.")


@pytest.mark.parametrize(("n_right", "level"), [(14, "weak"), (15, "fair"), (24, "fair"), (25, "good")])
def test_the_held_out_answers_decide_the_level(n_right, level):
    assert quality_on_held_out("composed", "it", right(n_right), EXAMPLES).level == level


def test_without_held_out_examples_the_chance_of_a_whole_left_out_answer_is_judged():
    halves = LeftOutLosses((0.0, math.log(2)), (1.0, 3.0))  # chances 1 and 1/2
    quality = quality_left_out("composed", "the composition", halves)
    assert (quality.level, quality.share_percent, quality.interval_percent) == ("fair", 75.0, (0.0, 100.0))
    assert "a left-out example has a chance of 75 %" in quality.text
    assert "to be wrong" not in quality.text
    assert quality.text.endswith("A few examples are too few to tell how often it is right: hold some out.")
    likely = LeftOutLosses(tuple(-math.log(p) for p in (0.9, 0.92, 0.94, 0.96, 0.98)), (2.0,) * 5)
    assert quality_left_out("composed", "it", likely).level == "fair"  # never good
    # by token each has a chance of 0.7, by whole answer of 0.34
    long = LeftOutLosses((-3 * math.log(0.7),) * 5, (3.0,) * 5)
    assert quality_left_out("composed", "it", long).level == "weak"


TOKENS = {"composed": 12.0, "in_context": 120.0, "best_single": 12.0, "zero_shot": 12.0}


@pytest.mark.parametrize("advised", ["composed", "best_single", None])
def test_an_adapter_reads_fewer_tokens_than_examples_in_the_prompt(advised):
    told = question_tokens(TOKENS, advised)
    assert (told.adapter, told.in_context, told.times) == (12.0, 120.0, 10.0)
    assert told.text == (
        "The composition uses 12 tokens of prompt per question against 120 with the examples in the prompt: "
        "108 fewer (10 % as many)."
    )


@pytest.mark.parametrize(
    ("composed", "in_context", "says", "of_in_context"),
    [
        (36.0, 16.0, "36 tokens of prompt per question against 16 with", "20 fewer (44 % as many)"),
        (36.0, 35.7, "against 36 with the examples in the prompt: as many.", "as many"),
        (16.0, 36.0, "prompt: 20 fewer (44 % as many).", "20 more, 2.2 times as many"),
    ],
)
def test_it_is_said_which_prompt_is_shorter_and_by_how_much(composed, in_context, says, of_in_context):
    told = question_tokens({"composed": composed, "in_context": in_context}, None)
    assert says in told.text
    assert told.in_context_compared == of_in_context
    longer = question_tokens({"composed": 36.0, "in_context": 16.0}, None)
    assert longer.text.endswith(": 20 more, 2.2 times as many.")


def test_where_the_examples_in_the_prompt_are_advised_it_says_how_much_more_each_question_costs():
    assert question_tokens(TOKENS, "in_context").text == (
        "With the examples in the prompt each question costs 120 tokens of prompt instead of 12: 108 more, "
        "10.0 times as many."
    )


@pytest.mark.parametrize("missing", ["composed", "in_context"])
def test_without_one_of_the_two_lengths_nothing_is_said(missing):
    assert question_tokens(TOKENS | {missing: None}, "composed") is None
    assert question_tokens({k: v for k, v in TOKENS.items() if k != missing}, None) is None


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_report_tells_both_beside_the_verdict(tmp_path, kind):
    folder = make_job(tmp_path, kind=kind, method="exact", search="adam", budget=9, max_new_tokens=4)
    job.run(folder, lambda event: None)
    report = json.loads((folder / "out" / "report.json").read_text())
    verdict, rows = report["verdict"], {row["key"]: row for row in report["baselines"]}
    judged = rows[verdict["quality"]["key"]]
    assert judged["key"] == (verdict["advised"] or "composed")
    assert verdict["quality"]["share_percent"] == judged["held_out_exact_match_percent"]
    assert verdict["quality"]["level"] == "weak"  # random weights answer nothing
    assert verdict["tokens"]["in_context"] == rows["in_context"]["prompt_tokens"]
    assert all(row["prompt_tokens"] == rows["composed"]["prompt_tokens"] for row in report["baselines"][:3])
    assert list(verdict_texts(verdict)) == [
        verdict["text"],
        verdict["quality"]["text"],
        verdict["tokens"]["text"],
    ]


def test_a_report_without_baselines_still_says_how_good_the_composition_is(tmp_path):
    folder = make_job(tmp_path, method="exact", search="adam", budget=9, max_new_tokens=4, baselines="none")
    job.run(folder, lambda event: None)
    verdict = json.loads((folder / "out" / "report.json").read_text())["verdict"]
    assert (verdict["decision"], verdict["quality"]["key"], verdict["tokens"]) == (
        "unmeasured",
        "composed",
        None,
    )
