"""The one reader of examples, for every way in: a text, a file, a list.

It knows the usual dialects (`example_dialects`) and takes columns that were chosen by hand. What it does not
use, it says: `Reading.notes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.errors import ExamplesError, MissingOutputError, NoExamplesError
from composer.core.spec.example_dialects import (
    PAIR,
    Dialect,
    Unused,
    is_known,
    quoted,
    read_row,
)
from composer.core.spec.example_header import header_notes, names_as_example, notes_of_first
from composer.core.spec.example_rows import (
    Columns,
    Row,
    Rows,
    UnknownColumnsError,
    rows_of_list,
    rows_of_text,
)
from composer.core.spec.examples import MAX_CHARACTERS, Example, problems_with

PROBLEMS_SHOWN_MAX = 20  # a file of the wrong kind would tell every line
PROBLEMS_COUNTED_MAX = 10_000
ALL_ROWS = 10**9
AS_EXPECTED = Columns()
AS_TEXT = "Save it as CSV or JSONL"
# How files of programs begin, what they are, and the way out.
PROGRAM_FILES = (
    ((b"PK\x03\x04", b"\xd0\xcf\x11\xe0"), "a spreadsheet's own file (or an archive)", f"{AS_TEXT} there."),
    ((b"PAR1", b"ARROW1"), "a Parquet or Arrow file", f"{AS_TEXT}: to_csv or to_json of pandas or datasets."),
    ((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd"), "compressed", "Unpack it first."),
    ((b"%PDF",), "a PDF", "Copy its table into a spreadsheet, and save that as CSV."),
    ((b"SQLite format 3",), "a database", f"{AS_TEXT} there."),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle", f"{AS_TEXT}: to_csv of pandas."),
)


@dataclass(frozen=True)
class LineProblem:
    """Why one row cannot be used.

    Attributes:
        index: of the row among all that are not blank, from 0.
        error: its message names the row.
        part: "input" or "output", or empty where the whole row is wrong.
    """

    index: int
    error: ExamplesError
    part: str = ""


class ExampleLinesError(ExamplesError):
    """Some rows cannot be used.

    Attributes:
        lines: every problem.
        problems: sentences for a page, each with the number of its line; the first of many.
        columns: the names of the columns that were found.
    """

    def __init__(self, lines: Sequence[LineProblem], columns: Sequence[str] = ()) -> None:
        self.lines, self.columns = list(lines), tuple(columns)
        self.problems = [str(line.error) for line in lines[:PROBLEMS_SHOWN_MAX]]
        if len(lines) > PROBLEMS_SHOWN_MAX:
            more = count_noun(len(lines) - PROBLEMS_SHOWN_MAX, "more line")
            self.problems.append(f"And {more} like these.")
        others = len(lines) - 1
        more = f" {count_noun(others, 'more line')} cannot be used." if others else ""
        super().__init__(f"{lines[0].error}{more}")
        self.code = lines[0].error.code


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        examples: in the order of the rows.
        notes: sentences about what is not used, and what may not be meant so.
        columns: the names of the columns that were found.
        header: the input and the output of the first row, if they look like names of columns.
    """

    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: tuple[str, str] | None = None


@dataclass
class Collected:
    """The rows so far, usable or not."""

    examples: list[Example] = field(default_factory=list)
    problems: list[LineProblem] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)  # an ordered set
    unused: Unused = field(default_factory=Unused)
    beyond: str = ""  # the first row after the limit


def read_text(
    text: str,
    columns: Columns = AS_EXPECTED,
    *,
    limit: int = ALL_ROWS,
    characters_max: int = MAX_CHARACTERS,
) -> Reading:
    """Read examples from a text: a paste from a spreadsheet, the text of a JSON, JSON Lines or CSV file.

    Args:
        text: it is read only as far as `limit` examples.
        columns: chosen by hand.
        limit: the most examples that are used; a note tells of the rows behind them.
        characters_max: the most characters of an input, and of an output.

    Raises:
        ExampleLinesError: a row cannot be used; it tells of every such row.
        ExamplesError: the text as a whole cannot be read, or has no such column.
    """
    try:
        rows = rows_of_text(text, columns)
        found = collect(rows, limit, characters_max)
    except ExampleLinesError:
        raise
    except ExamplesError as error:  # found while the rows are read
        raise ExampleLinesError([LineProblem(0, error)], getattr(error, "columns", ())) from error
    header = None if rows.has_names else names_as_example(found.examples)
    about_first = notes_of_first(found.examples) if rows.has_names else header_notes(header)
    return Reading(tuple(found.examples), (*notes_of(found), *about_first), tuple(found.columns), header)


def read_objects(
    values: Sequence[Any],
    columns: Columns = AS_EXPECTED,
    *,
    label: str = "Example {}",
    characters_max: int = MAX_CHARACTERS,
) -> Reading:
    """Read examples from a list of objects or pairs, as a program gives them.

    Args:
        values: each a mapping in a known dialect, a pair (input, output), or an Example.
        columns: chosen by hand.
        label: what a message calls one of them, with {} for its number from 1.
        characters_max: as in `read_text`.

    Raises:
        ExampleLinesError: one of them cannot be used; it tells of each.
    """
    pairs = [(it.input, it.output) if isinstance(it, Example) else it for it in values]
    rows = Rows(rows_of_list(pairs, label), columns.dialect())
    found = collect(rows, ALL_ROWS, characters_max, skips_blanks=False)
    notes = (*notes_of(found), *notes_of_first(found.examples))
    return Reading(tuple(found.examples), notes, tuple(found.columns))


def read_file(path: Path, columns: Columns = AS_EXPECTED, *, limit: int = ALL_ROWS) -> Reading:
    """Read examples from a file in UTF-8, or in UTF-16 with its mark; at least one.

    Raises:
        NoExamplesError: there is none.
        ExamplesError: as `read_text`, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExamplesError(f"{path} cannot be read.") from error
    reading = read_text(decode(data), columns, limit=limit)
    if not reading.examples:
        raise NoExamplesError("There are no examples. Give at least one input with its output.")
    return reading


def read_examples(path: Path, limit: int) -> tuple[Example, ...]:
    """Return the examples of a job's file, at least one and at most `limit`.

    Raises:
        ExamplesError: as `read_file`, or there are more than `limit`.
    """
    try:
        reading = read_file(path, limit=limit + 1)
    except ExampleLinesError as refusal:
        raise refusal.lines[0].error from refusal
    if len(reading.examples) > limit:
        raise ExamplesError(f"There are more than {limit} examples; at most {limit} can be used.")
    return reading.examples


def decode(data: bytes) -> str:
    """Return the text of a file.

    Raises:
        ExampleLinesError: it is the file of a program, or not UTF-8; the message names the line where that
            begins.
    """
    for beginnings, what, way_out in PROGRAM_FILES:
        if data.startswith(beginnings):
            error = ExamplesError(f"The file is no text: it is {what}. {way_out}")
            raise ExampleLinesError([LineProblem(0, error)])
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"Line {line} is not UTF-8 text. Save the file as “CSV UTF-8” or as JSONL in UTF-8."
        raise ExampleLinesError([LineProblem(0, ExamplesError(message))]) from error


# --- from rows to examples ----------------------------------------------------


def collect(rows: Rows, limit: int, characters_max: int, *, skips_blanks: bool = True) -> Collected:
    """Return the usable rows up to the limit.

    Raises:
        ExampleLinesError: some cannot be used.
        ExamplesError: a chosen column is in none of them.
    """
    found = Collected()
    for index, row in enumerate(rows.rows):
        if len(found.examples) == limit or len(found.problems) == PROBLEMS_COUNTED_MAX:
            found.beyond = row.label
            break
        found.columns |= dict.fromkeys(row.cells)
        try:
            given, expected = read_labelled(row, rows.dialect, found.unused)
        except UnknownColumnsError as error:  # the rows behind it are hardly better
            raise ExampleLinesError([LineProblem(index, error)], error.columns) from error
        except ExamplesError as error:
            part = "output" if isinstance(error, MissingOutputError) else ""
            found.problems.append(LineProblem(index, error, part))
            continue
        if skips_blanks and is_blank(given, expected):
            continue
        if wrong := problems_with(given, expected, label=row.label, characters_max=characters_max):
            found.problems += [LineProblem(index, problem.error, problem.part) for problem in wrong]
        else:
            found.examples.append(Example(given, expected))
    require_columns(rows.dialect, found)
    if found.problems:
        raise ExampleLinesError(found.problems, tuple(found.columns))
    return found


def read_labelled(row: Row, dialect: Dialect | None, unused: Unused) -> tuple[Any, Any]:
    """Return the input and the output of a row, as `read_row`.

    Raises:
        UnknownColumnsError: its names tell nothing.
        ExamplesError: it cannot be read; the message names the row.
    """
    if row.problem:
        raise ExamplesError(row.problem)
    if dialect is None and row.cells and not is_known(row.cells):
        raise UnknownColumnsError(list(row.cells), len(row.cells))
    try:
        return read_row(row.cells, dialect, unused)
    except MissingOutputError as error:
        raise MissingOutputError(f"{row.label} {error}") from error
    except ExamplesError as error:
        raise ExamplesError(f"{row.label} {error}") from error


def require_columns(dialect: Dialect | None, found: Collected) -> None:
    """Refuse columns that were chosen and are not there."""
    if dialect in (None, PAIR) or not found.columns:
        return
    if missing := sorted(dialect.names - found.columns.keys()):
        message = f"There is no column {quoted(missing)}. There are {quoted(found.columns)}."
        raise ExampleLinesError([LineProblem(0, ExamplesError(message))], tuple(found.columns))


def is_blank(given: Any, expected: Any) -> bool:
    """Return whether nobody filled in this row, which is no mistake."""
    return all(isinstance(cell, str) and not cell.strip() for cell in (given, expected))


def notes_of(found: Collected) -> list[str]:
    """Return what is to be said of the rows that were read."""
    notes = found.unused.sentences()
    if found.beyond:
        n = count_noun(len(found.examples), "example")
        notes.append(f"Only the first {n} are used: {found.beyond} and all behind it are left out.")
    return notes
