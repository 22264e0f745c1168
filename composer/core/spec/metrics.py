"""Exact match as it is counted, and its 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from composer.core.spec.examples import Example

Z_95 = 1.959963984540054  # half-width of a 95 % interval, in standard deviations


@dataclass(frozen=True)
class Accuracy:
    """Exact matches among n answers, with a 95 % Wilson interval in percent."""

    n_correct: int
    n: int

    @property
    def percent(self) -> float:
        return 100 * self.n_correct / self.n

    @property
    def interval_percent(self) -> tuple[float, float]:
        low, high = wilson_interval(self.n_correct, self.n)
        return 100 * low, 100 * high


def wilson_interval(n_correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Bounds of a proportion that stay sensible near 0 and 1.

    Source: Wilson, Probable inference, JASA 22 (1927).
    """
    p = n_correct / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def is_exact_match(answer: str, expected: str) -> bool:
    """Strict: equal once outer white space is gone."""
    return answer.strip() == expected.strip()


def is_reference_match(answer: str, expected: str) -> bool:
    """As the released LoraHub counts: also without regard to case and full stops."""
    return normalize_answer(answer) == normalize_answer(expected)


def normalize_answer(text: str) -> str:
    return text.strip().lower().replace(".", "")


def accuracy(answers: Sequence[str], examples: Sequence[Example]) -> Accuracy:
    """Strict exact match of answers against the examples' outputs."""
    pairs = zip(answers, examples, strict=True)
    return Accuracy(sum(is_exact_match(answer, example.output) for answer, example in pairs), len(examples))


def longest_useful_answer(examples: Sequence[Example], max_new_tokens: int) -> int:
    """Tokens after which no answer can still become right, so that rambling is cut short.

    A token stands for at least one byte of text, but for a few that stand for none.
    """
    spare = 8
    longest = max(len(example.output.encode()) for example in examples)
    return min(max_new_tokens, longest + spare)


def count_noun(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
