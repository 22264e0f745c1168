"""Examples as people bring them: rows of a form, a paste from a spreadsheet, a JSONL or CSV file.

Plain Python. Every line that cannot be used is told, with its number and what to do about it.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from composer.core.spec.choices import EXAMPLES_LIMIT, HELD_OUT_LIMIT
from composer.core.spec.examples import Example, problems_with

EXAMPLES_MAX = EXAMPLES_LIMIT
HELD_OUT_MAX = min(1000, HELD_OUT_LIMIT)  # the composition and every baseline answer each one
# Of one input or output; about 1000 tokens, twice what the usual bases read. The core takes more, for the
# command line: its user may have a base that reads more.
CHARACTERS_MAX = 4000
FILE_BYTES_MAX = 8 * 1024 * 1024
PROBLEMS_SHOWN_MAX = 20  # a file of the wrong kind would tell every line
SNIFFED_LINES, SNIFFED_CHARACTERS = 50, 10_000  # enough to tell commas from semicolons
COLUMN_NAMES = (  # what data sets call the two; the first pair that is there counts
    ("input", "output"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("text", "label"),
    ("source", "target"),
)
NO_EXAMPLES = "Give at least one example: an input, and the output you expect for it. Five are a good start."
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".txt")


SEPARATED_BY = {
    "\t": "tabs",
    ",": "commas; put quotation marks around text that has commas",
    ";": "semicolons; put quotation marks around text that has semicolons",
}


class ExampleLinesError(ValueError):
    """Some lines cannot be used. `problems` are sentences, each with its line's number."""

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:PROBLEMS_SHOWN_MAX])
        if len(problems) > len(shown):
            shown.append(f"And {len(problems) - len(shown):,} more lines like these.")
        self.problems = shown
        super().__init__(" ".join(shown))


@dataclass(frozen=True)
class ExampleLine:
    """One line before it is checked: what to call it, its two cells, or why it has none."""

    label: str  # "Line 3"
    input: Any = None
    output: Any = None
    problem: str = ""


def pairs_from_rows(rows: Iterable[tuple[str, str]]) -> list[Example]:
    """The rows of a form's grid. Empty rows are left out, and so is a header that was pasted along."""
    return collect_pairs(ExampleLine(f"Row {row + 1}", *pair) for row, pair in filled_rows(rows))


def filled_rows(rows: Iterable[tuple[str, str]]) -> list[tuple[int, tuple[str, str]]]:
    """The rows that are not empty, each with its index, without a header that was pasted along."""
    filled = [(row, pair) for row, pair in enumerate(rows) if has_text(pair)]
    if filled and names_of(filled[0][1]) in map(list, COLUMN_NAMES):
        del filled[0]
    return filled


def valid_pairs(rows: Sequence[tuple[str, str]]) -> list[Example]:
    """The rows that would be composed from, while a form is filled in; the others are told in notes."""
    wrong = {note.row for note in row_notes(rows) if note.level == "error"}
    return [Example(*pair) for row, pair in filled_rows(rows) if row not in wrong]


def pairs_from_text(text: str) -> list[Example]:
    """Pasted text: JSON lines, or columns separated by tabs (as spreadsheets copy), commas or semicolons."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    start = text.lstrip()[:1]
    if start == "{":
        return collect_pairs(lines_of_json(text))
    if start == "[":
        return collect_pairs(lines_of_json_list(text))
    return collect_pairs(lines_of_table(text, separator=separator_of(text)))


def separator_of(text: str) -> str:
    """Tab, comma, or the semicolon of spreadsheets where the comma is the decimal sign."""
    lines = text.lstrip("\n").split("\n")[:SNIFFED_LINES]
    if "\t" in lines[0]:
        return "\t"
    return max((",", ";"), key=lambda separator: fit_of_separator(lines, separator))


def fit_of_separator(lines: Sequence[str], separator: str) -> tuple[bool, int]:
    """Whether the first line then names columns, and how many lines then have two cells."""
    rows = [next(csv.reader([line[:SNIFFED_CHARACTERS]], delimiter=separator), []) for line in lines]
    return pair_named(names_of(rows[0])) is not None, sum(len(row) == 2 for row in rows)


def pairs_from_file(name: str, data: bytes) -> list[Example]:
    """An uploaded file, by its content; the name only says whether it can be one of ours."""
    if not name.lower().endswith(KINDS):
        raise ExampleLinesError([f"“{name[:80]}” is not a file of examples. Upload JSONL, CSV or TSV."])
    if len(data) > FILE_BYTES_MAX:
        raise ExampleLinesError(
            [f"The file is larger than {FILE_BYTES_MAX // 1024**2} MB. Send fewer lines."]
        )
    return pairs_from_text(decode(data))


def decode(data: bytes) -> str:
    """UTF-8, with or without its mark, or UTF-16 with its mark; anything else is refused where it begins."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"Line {line} is not UTF-8 text. Save the file as “CSV UTF-8” or as JSONL in UTF-8."
        raise ExampleLinesError([message]) from error


def lines_of_json(text: str) -> Iterator[ExampleLine]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield line_of_object(f"Line {number}", line)


def lines_of_json_list(text: str) -> Iterator[ExampleLine]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExampleLinesError(
            ["The text begins like a JSON list and is none. Use one JSON object a line."]
        ) from error
    for number, row in enumerate(rows, start=1):
        yield line_of_object(f"Example {number}", json.dumps(row))


def line_of_object(label: str, line: str) -> ExampleLine:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        problem = f'{label} is not a JSON object. Write {{"input": "…", "output": "…"}}.'
        return ExampleLine(label, problem=problem)
    return line_of_named(label, {name.lower(): value for name, value in row.items()})


def line_of_named(label: str, row: Mapping[str, Any]) -> ExampleLine:
    given, wanted = pair_named(row) or COLUMN_NAMES[0]
    if given != "instruction" and row.get("instruction"):
        problem = f"{label} also has an “instruction”, which would be lost. Put it into its {given}."
        return ExampleLine(label, problem=problem)
    return ExampleLine(label, row.get(given), row.get(wanted))


def pair_named(names: Iterable[str]) -> tuple[str, str] | None:
    """What input and output are called among these names."""
    return next((pair for pair in COLUMN_NAMES if {*pair} <= {*names}), None)


def names_of(row: Iterable[str]) -> list[str]:
    return [cell.strip().lower() for cell in row]


def has_text(row: Iterable[str]) -> bool:
    return any(cell.strip() for cell in row)


def lines_of_table(text: str, *, separator: str) -> Iterator[ExampleLine]:
    """Rows of two columns. A first row “input, output” names the columns, in any order, among others."""
    rows = [(f"Line {number}", row) for number, row in numbered_rows(text, separator) if has_text(row)]
    names = names_of(rows[0][1]) if rows else []
    if pair_named(names) is None:
        return (line_of_row(label, row, separator) for label, row in rows)
    width = len(names)
    return (
        line_of_named(label, dict(zip_longest(names, row[:width], fillvalue=""))) for label, row in rows[1:]
    )


def numbered_rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Each row with the number of the line it begins on: a quoted cell may hold several lines."""
    try:
        return list(rows_of(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)))
    except BrokenRowError as broken:
        if separator == "\t":  # typed by hand rather than copied: quotation marks are just marks
            return [(number, line.split("\t")) for number, line in enumerate(text.split("\n"), start=1)]
        message = (
            f"The row that begins on line {broken.line} is broken: a quotation mark does not close, "
            "or a cell is far too long."
        )
        raise ExampleLinesError([message]) from broken


class BrokenRowError(ValueError):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def rows_of(reader: Any) -> Iterator[tuple[int, list[str]]]:
    begins = 1
    try:
        for row in reader:
            yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise BrokenRowError(begins) from error


def line_of_row(label: str, row: list[str], separator: str) -> ExampleLine:
    if has_text(row[2:]):
        kind = SEPARATED_BY[separator]
        return ExampleLine(
            label, problem=f"{label} has {len(row)} columns, not two. They are separated by {kind}."
        )
    return ExampleLine(label, *[*row, ""][:2])


def collect_pairs(lines: Iterable[ExampleLine]) -> list[Example]:
    """The usable lines, or every problem at once."""
    pairs, problems = [], []
    for line in lines:
        if is_blank(line):
            continue
        if problem := line.problem or problem_with(line):
            problems.append(problem)
        else:
            pairs.append(Example(line.input, line.output))
    if problems:
        raise ExampleLinesError(problems)
    return pairs


def is_blank(line: ExampleLine) -> bool:
    """A row of blanks is a row nobody filled in, not a mistake."""
    cells = (line.input, line.output)
    return not line.problem and all(isinstance(cell, str) and not cell.strip() for cell in cells)


def problem_with(line: ExampleLine) -> str:
    """What is wrong with a line; empty when nothing is."""
    problems = problems_with(line.input, line.output, label=line.label, characters_max=CHARACTERS_MAX)
    return str(problems[0]) if problems else ""


@dataclass(frozen=True)
class Note:
    """What is to be said of a row of the grid while it is written."""

    row: int  # from 0, empty rows counted
    level: str  # "error": it cannot be composed from; "warning": it can, and is worth a look
    text: str


def row_notes(rows: Sequence[tuple[str, str]]) -> list[Note]:
    """One note at most for a row, what stops it before what is odd about it."""
    filled = filled_rows(rows)
    notes: list[Note] = []
    first_row: dict[tuple[str, str], int] = {}
    first_answer: dict[str, int] = {}
    for row, (given, wanted) in filled:
        key, answer = given.strip(), wanted.strip()
        if problem := problem_with(ExampleLine(f"Row {row + 1}", given, wanted)):
            notes.append(Note(row, "error", problem))
        elif (key, answer) in first_row:
            notes.append(
                Note(row, "warning", f"The same as row {first_row[key, answer] + 1}: it counts twice.")
            )
        elif key in first_answer:
            text = f"Row {first_answer[key] + 1} has this input with another output. Which one is right?"
            notes.append(Note(row, "warning", text))
        first_row.setdefault((key, answer), row)
        first_answer.setdefault(key, row)
    return notes + [
        Note(row, "error", f"At most {EXAMPLES_MAX} examples are composed from. Hold this one out instead.")
        for row, _ in filled[EXAMPLES_MAX:]
    ]


def json_lines(pairs: Iterable[Example]) -> str:
    """One JSON object a line, as every part of the project reads examples."""
    return "".join(
        json.dumps({"input": pair.input, "output": pair.output}, ensure_ascii=False) + "\n" for pair in pairs
    )
