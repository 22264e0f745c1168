"""Exact match and its 95 % confidence interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from composer.core.spec.examples import Example, normalize_text

Z_95 = 1.959963984540054  # half the width of a 95 % interval, in standard deviations


@dataclass(frozen=True)
class Accuracy:
    """The number of exact matches among n answers, n at least 1."""

    n_correct: int
    n: int

    @property
    def percent(self) -> float:
        """Return the share of exact matches, 0 to 100 percent."""
        return 100 * self.n_correct / self.n

    @property
    def interval_percent(self) -> tuple[float, float]:
        """Return the lower and upper bound of the 95 % Wilson interval, 0 to 100 percent."""
        low, high = wilson_interval(self.n_correct, self.n)
        return 100 * low, 100 * high


def wilson_interval(n_correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return the lower and upper bound of a proportion, each from 0 to 1.

    Unlike the normal approximation, the interval stays within 0 and 1 and is not empty at 0 or n hits.

    Args:
        n_correct: hits, from 0 to n.
        n: trials, at least 1.
        z: half the width of the interval in standard deviations; the default gives 95 %.

    Source: Wilson, Probable inference, JASA 22 (1927).
    """
    p = n_correct / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def is_exact_match(answer: str, expected: str) -> bool:
    """Return whether the texts are equal in the normal form NFC, once outer white space is removed."""
    return normalize_text(answer).strip() == normalize_text(expected).strip()


def is_reference_match(answer: str, expected: str) -> bool:
    """Return whether the texts are equal as the released LoraHub counts: case and full stops are ignored."""
    return normalize_answer(answer) == normalize_answer(expected)


def normalize_answer(text: str) -> str:
    """Return the text in NFC and lower case, without outer white space and without full stops."""
    return normalize_text(text).strip().lower().replace(".", "")


def accuracy(answers: Sequence[str], examples: Sequence[Example]) -> Accuracy:
    """Count the exact matches of n answers with the outputs of n examples.

    Raises:
        ValueError: there are more answers than examples, or fewer.
    """
    pairs = zip(answers, examples, strict=True)
    return Accuracy(sum(is_exact_match(answer, example.output) for answer, example in pairs), len(examples))


def longest_useful_answer(examples: Sequence[Example], max_new_tokens: int) -> int:
    """Return the number of tokens beyond which no answer can be an exact match.

    A token stands for at least one byte of text, except for a few special tokens; 8 tokens are added for
    those. Generation stops there, so an endless answer costs less time.

    Args:
        examples: at least one.
        max_new_tokens: the most tokens that the job allows.
    """
    spare = 8
    longest = max(len(example.output.encode()) for example in examples)
    return min(max_new_tokens, longest + spare)


def count_noun(number: int, noun: str) -> str:
    """Return the number with its noun, such as "1 example" or "2 examples" for the noun example."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
