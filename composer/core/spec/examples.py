"""The examples that define a task: what a valid one is, and which count as the same.

`example_files` reads them from texts, files and lists, and checks each by `problems_with`.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from composer.core.spec.counting import count_noun
from composer.core.spec.errors import ExamplesError, ExampleTooLongError, MissingOutputError

MAX_CHARACTERS = 20_000  # of one input or output; every base model we know would cut off a longer text

NOTE_CHARACTERS = 60  # of an input that a note names


@dataclass(frozen=True)
class Example:
    """One input and its expected output, both in Unicode's normal form NFC.

    The same text can be written by different characters: é is one character, or e and an accent. In one
    form, equal texts are equal, and a base model reads the form that it was trained on.
    """

    input: str
    output: str

    def __post_init__(self) -> None:
        """Bring both texts into the normal form."""
        object.__setattr__(self, "input", normalize_text(self.input))
        object.__setattr__(self, "output", normalize_text(self.output))


@dataclass(frozen=True)
class ExampleProblem:
    """One fault of an example's input or output."""

    part: str  # "input" or "output"
    error: ExamplesError  # its message names the example

    def __str__(self) -> str:
        """Return the message of the error."""
        return str(self.error)


def normalize_text(text: str) -> str:
    """Return the text in Unicode's normal form NFC."""
    return unicodedata.normalize("NFC", text)


def problems_with(
    given: object, expected: object, *, label: str, characters_max: int = MAX_CHARACTERS
) -> list[ExampleProblem]:
    """Return what is wrong with an input and an output: at most one problem for each of them.

    The form, the paste, the file, the API, the command line and the job all use this rule.

    Args:
        given: the input.
        expected: the output.
        label: the name of the example at the start of a sentence, such as "Line 3".
        characters_max: the most characters of the input, and of the output.
    """
    parts = (("input", given), ("output", expected))
    found = [(part, error_of_text(part, text, label, characters_max)) for part, text in parts]
    return [ExampleProblem(part, error) for part, error in found if error is not None]


def error_of_text(part: str, text: object, label: str, characters_max: int) -> ExamplesError | None:
    """Return the first fault of an example's input or output, or None if it has no fault.

    Args:
        part: "input" or "output".
        text: the value to check.
        label: as in `problems_with`.
        characters_max: the most characters that are allowed.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        missing = MissingOutputError if part == "output" else ExamplesError
        return missing(f"{label} has no {part}. Fill it in or remove the line.")
    place = f"The {part} of {label.lower()}"
    if not isinstance(text, str):
        kind = "a list" if isinstance(text, list | tuple) else "a JSON object"
        return ExamplesError(f"{place} is {kind}, not text. Put it in quotation marks.")
    if len(text) > characters_max:
        message = f"{place} has {len(text):,} characters; at most {characters_max:,} fit."
        return ExampleTooLongError(message, len(text), characters_max)
    if not is_storable(text):
        return ExamplesError(f"{place} holds characters that are not text. Remove them.")
    return None


def is_storable(text: str) -> bool:
    """Return False for a text with NUL or a lone surrogate, which no database or tokenizer accepts."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def exclude_examples(held_out: Iterable[Example], examples: Iterable[Example]) -> list[Example]:
    """Return the held-out examples whose input is not the input of one of the examples `examples`.

    Outer white space of an input is ignored. The output is ignored too: the composition has seen the
    question, so its answer to the same question proves nothing, even if another answer is expected.
    """
    seen = {example.input.strip() for example in examples}
    return [example for example in held_out if example.input.strip() not in seen]


def without_repeats(examples: Iterable[Example]) -> list[Example]:
    """Return the examples, each once: one that is there twice is no second observation.

    Outer white space is ignored.
    """
    first: dict[tuple[str, str], Example] = {}
    for example in examples:
        first.setdefault(texts_of(example), example)
    return list(first.values())


def texts_of(example: Example) -> tuple[str, str]:
    """Return input and output without outer white space."""
    return example.input.strip(), example.output.strip()


def notes_on(examples: Sequence[Example], held_out: Sequence[Example] = ()) -> list[str]:
    """Return what to know of examples that repeat others, or contradict them: a sentence or two for each."""
    contradiction = note_of_contradictions(examples)
    return notes_on_repeats(examples, held_out) + ([contradiction] if contradiction else [])


def notes_on_repeats(examples: Sequence[Example], held_out: Sequence[Example]) -> list[str]:
    """Return how many of either repeat others."""
    notes = (note_of_repeats(examples, "example"), note_of_repeats(held_out, "held-out example"))
    return [note for note in notes if note]


def note_of_repeats(examples: Sequence[Example], noun: str) -> str:
    """Return how many examples repeat others; empty if none does."""
    left = len(without_repeats(examples))
    if left == len(examples):
        return ""
    repeats = f"{len(examples) - left} of the {len(examples)} {noun}s"
    return f"{repeats} repeat others, so {count_noun(left, noun)} {'counts' if left == 1 else 'count'}."


def note_of_contradictions(examples: Sequence[Example]) -> str:
    """Return which inputs have several outputs; empty if none has."""
    inputs = Counter(given for given, _ in dict.fromkeys(map(texts_of, examples)))
    several = [given for given, n in inputs.items() if n > 1]
    if not several:
        return ""
    first = f"The input “{several[0][:NOTE_CHARACTERS]}”"
    has = f"{first} has" if len(several) == 1 else f"{first} and {len(several) - 1} more have"
    return f"{has} different outputs: at most one can be right."


def require_disjoint(held_out: Sequence[Example], examples: Sequence[Example]) -> None:
    """Refuse held-out examples that have the input of one of the examples `examples`.

    Raises:
        ExamplesError: there is at least one; the message says how many there are.
    """
    seen = len(held_out) - len(exclude_examples(held_out, examples))
    if seen:
        has = "has" if seen == 1 else "have"
        raise ExamplesError(
            f"{seen} of the held-out examples {has} the input of an example to compose from. "
            "Take them out of one of the two."
        )


def json_lines(examples: Iterable[Example]) -> str:
    """Return one JSON object a line, as a job's files have them."""
    rows = ({"input": example.input, "output": example.output} for example in examples)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def example_sha256(example: Example) -> str:
    """Return the SHA-256 of an example's input and output, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([example.input, example.output]).encode()).hexdigest()
