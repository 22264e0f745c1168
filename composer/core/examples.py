"""The few examples that say what the task is."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core.errors import ExamplesError, ExampleTooLongError, MissingOutputError, NoExamplesError

MAX_CHARACTERS = 20_000  # of one input or output; a longer one is cut off by every base model we know


@dataclass(frozen=True)
class Example:
    """One input and the output that is expected for it."""

    input: str
    output: str


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
        except (ValueError, RecursionError) as error:
            raise ExamplesError(f"Example {number} is not a JSON object on one line.") from error
        yield checked_example(number, row)


def checked_example(number: int, row: Any) -> Example:
    """The example in `row`, or the reason why it is none."""
    if not isinstance(row, dict) or not isinstance(row.get("input"), str):
        raise ExamplesError(f'Example {number} needs an "input" that is text.')
    output = row.get("output")
    if not isinstance(output, str) or not output.strip():
        raise MissingOutputError(number)
    for text in (row["input"], output):
        if len(text) > MAX_CHARACTERS:
            raise ExampleTooLongError(number, len(text), MAX_CHARACTERS, "characters")
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ExamplesError(f"Example {number} holds characters that are not text.")
    return Example(row["input"], output)


def example_sha256(example: Example) -> str:
    """What an example is known by."""
    return hashlib.sha256(json.dumps([example.input, example.output]).encode()).hexdigest()
