"""The numbers of the verdict's rule, and what the baselines are called in its sentences.

The verdict compares. Two more things decide whether its advice is worth following, and stand beside it:
how good the advised adapter is by itself, and how many tokens a question costs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from composer.core.spec.choices import USUAL_BASELINES
from composer.core.spec.counting import count_noun

BASELINE_NAMES = {baseline.key: baseline.in_words for baseline in USUAL_BASELINES}
# Rows that are compositions themselves: the composition must only not be behind them.
COMPOSITIONS = frozenset(baseline.key for baseline in USUAL_BASELINES if baseline.is_composition)

# Rows that one could take instead of the composition: without all of them there is no advice.
ADVISABLE = frozenset(BASELINE_NAMES) - COMPOSITIONS

WITH_EXAMPLES = "composed_in_context"
TUNED = "tuned"
# Rows that the best form of the composition is held against. The uniform average is one of them: it is
# a composition, but needs no search.
HELD_AGAINST = frozenset(BASELINE_NAMES) - {WITH_EXAMPLES, TUNED}

ABOUT_AS_WELL_POINTS = 5  # in percent; who leads by more does not do about as well, even if it may be luck
LUCK_LEVEL = 0.05  # probability; a lead that chance gives more often does not count

# Chosen on other tasks and draws than those of benchmarks/results; docs/decisions/0016 has the figures.
SURE_LEFT_OUT = 0.86  # probability that the mean lead is above zero; with five examples 1.25 standard errors
WORTH_LEFT_OUT = 0.9  # of the other loss; a smaller lead is not worth acting on, even if it is sure
FAR_LEFT_OUT = 0.4  # of the other loss; such a lead is not chance, even if one example disagrees

# Absolute quality, on the share of right answers. Below a half an answer is more likely wrong than right, so
# its user has to check every answer. At four fifths the wrong answers are the exception. "good" also
# needs a lower bound of the 95 % interval that 40 right of 50 have: five right of five could be luck.
FAIR_SHARE = 0.5
GOOD_SHARE = 0.8
GOOD_LOW = 0.65
# Instead of a share of wrong answers, where nothing was held out.
UNTOLD = "a few examples are too few to tell how often it is right: hold some out"
UNTOLD_SENTENCE = f"{UNTOLD.capitalize()}."

IN_CONTEXT = "in_context"


@dataclass(frozen=True)
class Quality:
    """How good one adapter is by itself, whatever the baselines do.

    Attributes:
        level: good, fair or weak.
        key: of the row of the report that is judged: the advised one, or else the composition.
        share_percent: 0 to 100: of right answers to held-out examples; for `left_out` the mean probability
            of a whole right answer to examples that were left out.
        interval_percent: the lower and upper bound of its 95 % interval.
        measured_on: held_out or left_out.
        text: the same as a sentence.
    """

    level: str
    key: str
    share_percent: float
    interval_percent: tuple[float, float]
    measured_on: str
    text: str


@dataclass(frozen=True)
class QuestionTokens:
    """How long the prompt of one question is, in tokens.

    Attributes:
        adapter: the mean with an adapter and no examples in the prompt.
        in_context: the mean with the examples in the prompt.
        times: in_context / adapter.
        text: the same as a sentence.
    """

    adapter: float
    in_context: float
    times: float
    text: str

    @property
    def in_context_compared(self) -> str:
        """Return how the prompt with the examples compares with the one of an adapter."""
        return compare_lengths(self.in_context, self.adapter)


def quality_level(share: float, low: float) -> str:
    """Return good, fair or weak.

    Args:
        share: of right answers, 0 to 1.
        low: the lower bound of its 95 % interval, 0 to 1.
    """
    if share < FAIR_SHARE:
        return "weak"
    return "good" if share >= GOOD_SHARE and low >= GOOD_LOW else "fair"


def meaning_of(interval_percent: Sequence[float]) -> str:
    """Return how many wrong answers to expect, as a clause.

    Args:
        interval_percent: the lower and upper bound of the share's 95 % interval, 0 to 100.
    """
    low, high = interval_percent
    fewest, most = round(100 - high), round(100 - low)
    if fewest == most:
        return f"expect about {most} % of its answers to be wrong"
    span = f"{fewest} to {most}" if fewest else f"up to {most}"
    return f"expect {span} % of its answers to be wrong"


def quality_text(level: str, name: str, measured: str, interval: tuple[float, float]) -> str:
    """Return the sentence on a quality.

    Args:
        level: good, fair or weak.
        name: of what is judged, in the middle of a sentence.
        measured: the figures, such as "33 % of 30 held-out examples are answered correctly".
        interval: the lower and upper bound of the share's 95 % interval, 0 to 1.
    """
    low, high = interval
    looks = "looks" if low < FAIR_SHARE <= high else "is"  # it may be on either side
    return f"By itself it {looks} {level}: with {name} {measured}, so {meaning_of((100 * low, 100 * high))}."


def compare_lengths(tokens: float, other: float) -> str:
    """Return how many more or fewer tokens the first of two prompts has, both above 0."""
    difference = round(tokens) - round(other)
    if difference == 0:
        return "as many"
    if difference > 0:
        return f"{difference} more, {tokens / other:.1f} times as many"
    return f"{-difference} fewer ({100 * tokens / other:.0f} % as many)"


def question_tokens(tokens: Mapping[str, float | None], advised: str | None) -> QuestionTokens | None:
    """Return what a question costs with an adapter and with the examples in the prompt; None if unknown.

    Args:
        tokens: the mean length of a prompt in tokens, by the key of the row; None where it is unknown.
        advised: the key of the row that the verdict advises to use; None if there is none.
    """
    adapter, in_context = tokens.get("composed"), tokens.get(IN_CONTEXT)
    if not adapter or not in_context:
        return None
    times = in_context / adapter
    own = tokens.get(advised) if advised else None
    if own and own > adapter:
        text = (
            f"With the examples in the prompt each question costs {count_noun(round(own), 'token')} of "
            f"prompt instead of {adapter:.0f}: {compare_lengths(own, adapter)}."
        )
    else:
        text = (
            f"The composition uses {count_noun(round(adapter), 'token')} of prompt per question "
            f"against {in_context:.0f} with the examples in the prompt: "
            f"{compare_lengths(adapter, in_context)}."
        )
    return QuestionTokens(round(adapter, 1), round(in_context, 1), round(times, 2), text)


def verdict_texts(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentences of a report's `verdict`: the advice, the quality, the tokens of a question."""
    yield verdict["text"]
    for part in ("quality", "tokens"):
        if verdict.get(part):
            yield verdict[part]["text"]
