"""A sentence that counts one thing says so in the singular."""

import math

import pytest

from composer.core.evaluation.verdict import LeftOutLosses, verdict_left_out
from composer.core.spec.counting import count_noun, is_or_are
from composer.core.spec.verdict_rule import question_tokens
from composer.report.page import comparison_text


def test_a_number_stands_with_its_noun():
    counted = [count_noun(number, "point") for number in (0, 1, -1, 2, 1200)]
    assert counted == ["0 points", "1 point", "-1 point", "2 points", "1,200 points"]

    assert [is_or_are(number) for number in (0, 1, 2)] == ["are", "is", "are"]


def row(key, percent):
    kind = "ours" if key == "composed" else "other"
    return {"key": key, "kind": kind, "label": key, "percent": percent, "low": 0, "high": 100}


@pytest.mark.parametrize(
    ("percent", "words"), [(51, "is 1 point ahead"), (49, "is 1 point ahead"), (53, "3 points")]
)
def test_the_comparison_counts_its_points(percent, words):
    assert words in comparison_text([row("composed", percent), row("zero_shot", 50)])


def test_the_cost_of_a_question_counts_its_tokens():
    assert "uses 1 token of prompt" in question_tokens({"composed": 1.2, "in_context": 30.0}, None).text
    long = question_tokens({"composed": 9.0, "in_context": 30.0}, "in_context").text
    assert "costs 30 tokens of prompt instead of 9" in long


@pytest.mark.parametrize(
    ("chances", "words"), [((0.61, 0.6), "is 1 point (95"), ((0.63, 0.6), "is 3 points (95")]
)
def test_the_verdict_counts_the_points_of_a_lead(chances, words):
    keys = zip(("composed", "zero_shot"), chances, strict=True)
    left_out = {key: LeftOutLosses((-math.log(chance),) * 3, (1, 1, 1)) for key, chance in keys}
    assert words in verdict_left_out(left_out, "m0").text
