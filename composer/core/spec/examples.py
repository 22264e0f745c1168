"""The few examples that say what the task is."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from composer.core.spec.errors import ExamplesError, ExampleTooLongError, MissingOutputError, NoExamplesError

MAX_CHARACTERS = 20_000  # of one input or output; a longer one is cut off by every base model we know


@dataclass(frozen=True)
class Example:
    """One input and the output that is expected for it."""

    input: str
    output: str


@dataclass(frozen=True)
class ExampleProblem:
    """What is wrong with an example's input or output."""

    part: str  # "input" or "output"
    error: ExamplesError  # its message names the example

    def __str__(self) -> str:
        return str(self.error)


def read_examples(path: Path, limit: int) -> tuple[Example, ...]:
    """Read lines of {"input": …, "output": …}; blank lines are skipped, other keys ignored.

    Raises:
        NoExamplesError: there is no line with an example.
        ExamplesError: a line is not such an object, or there are more than `limit`.
        MissingOutputError, ExampleTooLongError: as they say; they name the example.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ExamplesError(
            "The examples cannot be read as UTF-8 text: one JSON object a line is expected."
        ) from error
    examples = tuple(parse_lines(line for line in text.split("\n") if line.strip()))
    if not examples:
        raise NoExamplesError("There are no examples. Give at least one input with its output.")
    if len(examples) > limit:
        raise ExamplesError(f"There are {len(examples)} examples; at most {limit} can be used.")
    return examples


def parse_lines(lines: Iterable[str]) -> Iterable[Example]:
    """One example per line of JSON, numbered from 1 in every error."""
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ExamplesError(f"Example {number} is not a JSON object on one line.")
        if problems := problems_with(row.get("input"), row.get("output"), label=f"Example {number}"):
            raise problems[0].error
        yield Example(row["input"], row["output"])


def problems_with(
    given: object, expected: object, *, label: str, characters_max: int = MAX_CHARACTERS
) -> list[ExampleProblem]:
    """What keeps an input and an output from being an example: at most one problem of each.

    The one rule, for the form, a paste, a file, the API, the command line and a job.

    Args:
        label: what the reader knows the example by, as a sentence begins with it: "Line 3".
        characters_max: of the input, and of the output.
    """
    parts = (("input", given), ("output", expected))
    found = [(part, error_of_text(part, text, label, characters_max)) for part, text in parts]
    return [ExampleProblem(part, error) for part, error in found if error is not None]


def error_of_text(part: str, text: object, label: str, characters_max: int) -> ExamplesError | None:
    """The first thing wrong with an example's input or output; None where nothing is."""
    if text is None or (isinstance(text, str) and not text.strip()):
        missing = MissingOutputError if part == "output" else ExamplesError
        return missing(f"{label} has no {part}. Fill it in or remove the line.")
    place = f"The {part} of {label.lower()}"
    if not isinstance(text, str):
        return ExamplesError(f"{place} is not text. Put it in quotation marks.")
    if len(text) > characters_max:
        message = f"{place} has {len(text):,} characters; at most {characters_max:,} fit."
        return ExampleTooLongError(message, len(text), characters_max)
    if not is_storable(text):
        return ExamplesError(f"{place} holds characters that are not text. Remove them.")
    return None


def is_storable(text: str) -> bool:
    """False for NUL and for half a character (a lone surrogate): no database or tokenizer takes them."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def exclude_examples(held_out: Iterable[Example], examples: Iterable[Example]) -> list[Example]:
    """The held-out examples whose input is not a shot's: an example cannot both teach and test.

    Blanks around an input do not count. Neither does the output: the answer to a question that was
    composed from tells nothing, even where another answer is expected.
    """
    seen = {example.input.strip() for example in examples}
    return [example for example in held_out if example.input.strip() not in seen]


def require_disjoint(held_out: Sequence[Example], examples: Sequence[Example]) -> None:
    """Refuse held-out examples whose input is a shot's: they would prove nothing."""
    seen = len(held_out) - len(exclude_examples(held_out, examples))
    if seen:
        has = "has" if seen == 1 else "have"
        raise ExamplesError(
            f"{seen} of the held-out examples {has} the input of an example to compose from. "
            "Take them out of one of the two."
        )


def example_sha256(example: Example) -> str:
    """What an example is known by."""
    return hashlib.sha256(json.dumps([example.input, example.output]).encode()).hexdigest()
