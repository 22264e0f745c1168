"""The examples of a request: rows of the form's grid, pasted texts, uploaded files, with the site's limits.

What a text means, `composer.core.spec.example_files` reads, for every way in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from composer.core.spec.choices import EXAMPLES_LIMIT, HELD_OUT_LIMIT
from composer.core.spec.errors import ExamplesError
from composer.core.spec.example_dialects import KNOWN
from composer.core.spec.example_files import (
    AS_EXPECTED,
    ExampleLinesError,
    LineProblem,
    Reading,
    decode,
    read_text,
)
from composer.core.spec.example_header import names_as_example
from composer.core.spec.example_rows import Columns, plain_name
from composer.core.spec.examples import Example, problems_with

EXAMPLES_MAX = EXAMPLES_LIMIT
HELD_OUT_MAX = min(1000, HELD_OUT_LIMIT)  # the composition and every baseline answer each one
# Of one input or output; about 1000 tokens, twice what the usual bases read. The core takes more, for the
# command line: its user may have a base that reads more.
CHARACTERS_MAX = 4000
FILE_BYTES_MAX = 8 * 1024 * 1024
# With more examples than FEW_EXAMPLES the form offers to keep some aside; it composes from a half of them,
# but from no fewer than the first number and no more than the second.
FEW_EXAMPLES = 8
COMPOSED_FROM = (5, 16)
NO_EXAMPLES = "Give at least one example: an input, and the output you expect for it. Start with five."
HEADER_NOTE = "These look like column names. Remove the row if it is not an example."
HEADERS = [(*dialect.inputs, dialect.output) for dialect in KNOWN if len(dialect.inputs) == 1]
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".txt")


def pairs_from_rows(rows: Iterable[tuple[str, str]]) -> list[Example]:
    """The rows of a form's grid. Empty rows are left out, and so is a header that was pasted along."""
    pairs, problems = [], []
    for row, pair in filled_rows(rows):
        if wrong := problems_of_row(row, pair):
            problems.append(LineProblem(row, ExamplesError(wrong)))
        else:
            pairs.append(Example(*pair))
    if problems:
        raise ExampleLinesError(problems)
    return pairs


def filled_rows(rows: Iterable[tuple[str, str]]) -> list[tuple[int, tuple[str, str]]]:
    """The rows that are not empty, each with its index, without a header that was pasted along."""
    filled = [(row, pair) for row, pair in enumerate(rows) if any(cell.strip() for cell in pair)]
    if filled and tuple(map(plain_name, filled[0][1])) in HEADERS:
        del filled[0]
    return filled


def problems_of_row(row: int, pair: tuple[str, str]) -> str:
    """What is wrong with a row; empty when nothing is."""
    problems = problems_with(*pair, label=f"Row {row + 1}", characters_max=CHARACTERS_MAX)
    return str(problems[0]) if problems else ""


def valid_pairs(rows: Sequence[tuple[str, str]]) -> list[Example]:
    """The rows that would be composed from, while a form is filled in; the others are told in notes."""
    wrong = {note.row for note in row_notes(rows) if note.level == "error"}
    return [Example(*pair) for row, pair in filled_rows(rows) if row not in wrong]


def read_pasted(text: str, columns: Columns = AS_EXPECTED, *, limit: int) -> Reading:
    """Pasted text, or a file's: its examples, and what is not used of it."""
    return read_text(text, columns, limit=limit, characters_max=CHARACTERS_MAX)


def text_of_file(name: str, data: bytes) -> str:
    """The text of an uploaded file; the name only says whether it can be one of ours."""
    if not name.lower().endswith(KINDS):
        raise lines_error(
            f"“{name[:80]}” is not an examples file. Save it as CSV, TSV or JSONL, and upload that."
        )
    if len(data) > FILE_BYTES_MAX:
        raise lines_error(f"The file is larger than {FILE_BYTES_MAX // 1024**2} MB. Send fewer lines.")
    return decode(data)


def split_aside(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Some of the examples to compose from, and the others to measure on; no others where they are few.

    Those to compose from are spread evenly over the list, which may be sorted.
    """
    n = len(examples)
    if n <= FEW_EXAMPLES:
        return list(examples), []
    least, most = COMPOSED_FROM
    n_shots = min(most, max(least, n // 2))
    taken = {position * n // n_shots for position in range(n_shots)}
    return (
        [example for position, example in enumerate(examples) if position in taken],
        [example for position, example in enumerate(examples) if position not in taken],
    )


def lines_error(message: str) -> ExampleLinesError:
    return ExampleLinesError([LineProblem(0, ExamplesError(message))])


@dataclass(frozen=True)
class Note:
    """What is to be said of a row of the grid while it is written."""

    row: int  # from 0, empty rows counted
    level: str  # "error": it cannot be composed from; "warning": it can, and is worth a look
    text: str


def row_notes(rows: Sequence[tuple[str, str]]) -> list[Note]:
    """One note at most for a row, what stops it before what is odd about it."""
    filled = filled_rows(rows)
    has_names = names_as_example([Example(*pair) for _, pair in filled]) is not None
    header = filled[0][0] if has_names else None
    notes: list[Note] = []
    first_row: dict[tuple[str, str], int] = {}
    first_answer: dict[str, int] = {}
    for row, (given, wanted) in filled:
        key, answer = given.strip(), wanted.strip()
        if problem := problems_of_row(row, (given, wanted)):
            notes.append(Note(row, "error", problem))
        elif (key, answer) in first_row:
            notes.append(
                Note(row, "warning", f"The same as row {first_row[key, answer] + 1}: it counts once.")
            )
        elif key in first_answer:
            text = f"Row {first_answer[key] + 1} has this input with another output. Which one is right?"
            notes.append(Note(row, "warning", text))
        elif row == header:
            notes.append(Note(row, "warning", HEADER_NOTE))
        first_row.setdefault((key, answer), row)
        first_answer.setdefault(key, row)
    return notes + [
        Note(
            row, "error", f"At most {EXAMPLES_MAX} examples can be composed from. Hold this one out instead."
        )
        for row, _ in filled[EXAMPLES_MAX:]
    ]
