"""Words, phrases and sentences with their answers, and which of them may be used for what.

The lists lie in words/: fv_* and ii_* are samples of public task data (words/NOTICE.md), the others
are our own. A text belongs to one part of the world, whatever is asked of it: a word that any module
was trained on is in no shots and in no held-out examples of any task.
"""

from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

WORDS = Path(__file__).parent / "words"

Part = Literal["train", "dev", "shots", "held_out"]
SIXTEENTHS: dict[Part, int] = {"train": 8, "dev": 2, "shots": 2, "held_out": 4}  # of all texts


class EnglishExample(NamedTuple):
    """A prompt and the only answer that counts."""

    input: str
    output: str


def part_of(text: str) -> Part:
    """Return the part that a text belongs to; upper and lower case are the same text."""
    left = sha256(text.lower().encode()).digest()[0] % sum(SIXTEENTHS.values())
    for part, share in SIXTEENTHS.items():
        left -= share
        if left < 0:
            return part
    raise AssertionError("the shares add up to the divisor")


def of_part(examples: Iterable[EnglishExample], part: Part) -> tuple[EnglishExample, ...]:
    """Return the examples whose input belongs to the part."""
    return tuple(example for example in examples if part_of(example.input) == part)


@cache
def columns(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the rows of words/<name>.tsv."""
    lines = (WORDS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines)


def pairs(*names: str, answer: int = 1) -> tuple[EnglishExample, ...]:
    """Return the first column of some lists with the column of its answer; the first list wins."""
    found: dict[str, EnglishExample] = {}
    for name in names:
        for row in columns(name):
            found.setdefault(row[0].lower(), EnglishExample(row[0], row[answer]))
    return tuple(found.values())


@cache
def kinds() -> dict[str, tuple[str, ...]]:
    """Return the words of each kind of thing."""
    lines = (WORDS / "kinds.txt").read_text(encoding="utf-8").splitlines()
    return {kind: tuple(words.split()) for kind, words in (line.split(": ") for line in lines)}
