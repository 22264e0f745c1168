"""How good one adapter is by itself, by the rule of composer.core.spec.verdict_rule."""

import statistics
from collections.abc import Sequence

from composer.core.evaluation.verdict import LeftOutLosses, mean_interval
from composer.core.spec.counting import count_noun, is_or_are
from composer.core.spec.examples import Example
from composer.core.spec.metrics import accuracy
from composer.core.spec.verdict_rule import FAIR_SHARE, UNTOLD_SENTENCE, Quality, quality_level, quality_text


def quality_on_held_out(key: str, name: str, answers: Sequence[str], examples: Sequence[Example]) -> Quality:
    """Judge the share of right answers to the held-out examples.

    Args:
        key: of the row that is judged.
        name: of the row, in the middle of a sentence.
        answers: one per held-out example.
        examples: the held-out examples.
    """
    found = accuracy(answers, examples)
    low, high = found.interval_percent
    n = len(examples)
    measured = (
        f"{found.percent:.0f} % of {count_noun(n, 'held-out example')} {is_or_are(n)} answered correctly "
        f"(95 % interval {low:.0f} to {high:.0f} %)"
    )
    level = quality_level(found.percent / 100, low / 100)
    text = quality_text(level, name, measured, (low / 100, high / 100))
    return quality_of(key, level, found.percent, (low, high), "held_out", text)


def quality_left_out(key: str, name: str, left_out: LeftOutLosses) -> Quality:
    """Judge the mean probability of a whole right answer to the n left-out examples, n at least 2.

    So few examples never make it good, and tell no error rate.

    Args:
        key: of the row that is judged.
        name: of the row, in the middle of a sentence.
        left_out: its losses on examples that it was not made from.
    """
    chances = left_out.whole_chances
    share = statistics.fmean(chances)
    low, high = (min(1.0, max(0.0, bound)) for bound in mean_interval(chances, 0.975))
    measured = (
        f"the whole right answer to a left-out example has a chance of {100 * share:.0f} % "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    )
    level = "weak" if share < FAIR_SHARE else "fair"
    text = f"With {name} {measured}. {UNTOLD_SENTENCE}"
    return quality_of(key, level, 100 * share, (100 * low, 100 * high), "left_out", text)


def quality_of(
    key: str, level: str, percent: float, interval: tuple[float, float], measured_on: str, text: str
) -> Quality:
    """Return the quality with its percentages rounded as in the report."""
    low, high = interval
    return Quality(level, key, round(percent, 2), (round(low, 2), round(high, 2)), measured_on, text)
