"""Exact match and its 95 % confidence interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from composer.core.spec.counting import count_noun
from composer.core.spec.examples import Example, normalize_text

CHARACTER_NAMES = {"\n": "line breaks", "\t": "tabs", " ": "spaces"}
CHARACTERS_SHOWN = 12
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


def unwritable_outputs(
    examples: Sequence[Example], round_trip: Callable[[str], str]
) -> list[tuple[str, str]]:
    """Return the outputs that no answer can equal, each with what a tokenizer makes of it.

    A tokenizer that lacks a character, such as "{" or a line break for some of T5's, reads it as unknown and
    never writes it.

    Args:
        examples: any number.
        round_trip: encodes a text and decodes it again, as answers are decoded.
    """
    outputs = dict.fromkeys(example.output for example in examples)
    written = ((output, round_trip(output)) for output in outputs)
    return [(output, text) for output, text in written if not is_exact_match(text, output)]


def warning_of_unwritable(examples: Sequence[Example], round_trip: Callable[[str], str]) -> str:
    """Return a warning if some outputs cannot be written; else the empty text.

    Args:
        examples: any number, those that are held out among them.
        round_trip: as in `unwritable_outputs`.
    """
    found = unwritable_outputs(examples, round_trip)
    if not found:
        return ""
    outputs = {output for output, _ in found}
    n = sum(example.output in outputs for example in examples)
    lost = dict.fromkeys(c for output, written in found for c in output.strip() if c not in written)
    if len(lost) > 1:
        lost.pop(" ", None)  # it goes with what stood beside it
    names = [CHARACTER_NAMES.get(character, f"“{character}”") for character in lost]
    what = f"lacks {', '.join(names[:CHARACTERS_SHOWN])}" if names else "changes the spaces in them"
    return (
        f"The base model cannot write {n} of the {count_noun(len(examples), 'output')}: "
        f"its tokenizer {what}. No answer can equal them. Write these outputs in other characters, "
        "or take another base model."
    )


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
