"""The rows of a text: JSON, JSON Lines, or columns separated by tabs, commas or semicolons.

Rows are read one by one, as far as they are asked for.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise, zip_longest
from typing import Any

from composer.core.spec.errors import ExamplesError
from composer.core.spec.example_broken_json import WRITE_OBJECTS, blocks_of, fault_of_json
from composer.core.spec.example_dialects import (
    CHAT_NAMES,
    COLUMN_NAME,
    PAIR,
    Dialect,
    find_dialect,
    is_chat,
    is_conversation,
    quoted,
)

BLANK_ROWS_MAX = 100_000  # a spreadsheet's empty rows; reading on through more would take seconds
JSON_MARKS_MAX = 500_000  # of one JSON text, which is read whole, within two seconds
SNIFFED_ROWS = 50  # enough to tell commas from semicolons
COLUMNS_MAX = 10_000  # a row with more is no row of a table
LISTS = ("examples", "data", "rows")  # the key of the list in one JSON object, as BBH has it
MEANT_AS_JSON = re.compile(r"""[\[{]\s*["'\[{]""")
NO_OBJECT = "not a JSON object"
NOT_BLANK = re.compile(r"\S")
NEXT_VALUE = re.compile(r"\s*(?:[\[{]|\Z)|[^\S\n]*\n")  # what may follow a value among several
FAULT_CHARACTERS = 100_000  # how far a fault is looked for
SHOWN_CHARACTERS = 80  # of an object in a message
MARKDOWN_RULE = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?")  # the second line of its tables
UNESCAPED_BAR = re.compile(r"(?<!\\)\|")
IN_BARS = re.compile(r"\|.*\|")  # a line of a Markdown table, with its outer bars
EXCEL_SEPARATOR = re.compile(
    r"""\s*"?sep=([,;|\t])"?[^\S\n]*(?:\n|\Z)""", re.IGNORECASE
)  # Excel's first line
PLUS = "+"  # between the names of columns that make up the input
SEPARATED_BY = {
    "\t": "tabs",
    ",": "commas; put quotation marks around text that has commas",
    ";": "semicolons; put quotation marks around text that has semicolons",
    "|": "bars; put quotation marks around text that has bars",
}


class UnknownColumnsError(ExamplesError):
    """There are more columns than two, and nothing tells which is the input and which the output.

    Attributes:
        columns: by which they can be chosen: names, or numbers where there are none.
    """

    def __init__(self, names: Sequence[str], n_columns: int, hint: str = "") -> None:
        self.columns = tuple(names) or tuple(str(number) for number in range(1, n_columns + 1))
        what = f"The columns {quoted(names)}" if names else f"The {n_columns} columns, which have no names,"
        super().__init__(f"{what} do not tell which is the input and which the output. Choose the two{hint}.")


class RepeatedKeyError(ExamplesError):
    """A key stands twice in one JSON object.

    Attributes:
        reason: what is wrong, as the end of a sentence about the object.
    """

    def __init__(self, name: str, first: tuple[str, Any]) -> None:
        self.reason = has_twice(name)
        begin = ": ".join(json.dumps(part, ensure_ascii=False) for part in first)
        super().__init__(f"The object that begins with {begin[:SHOWN_CHARACTERS]} {self.reason}")


class BrokenRowError(ValueError):
    """A row of a table cannot be split into cells.

    Attributes:
        line: the number of the line it begins on, from 1.
    """

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(line)


def has_twice(name: str) -> str:
    """Return what is wrong with an object that has a key twice, as the end of a sentence."""
    return f"has the key {quoted([name])} twice. Remove one of the two."


@dataclass(frozen=True)
class Columns:
    """The columns of input and output, as somebody chose them; nothing chosen: as the names tell.

    Attributes:
        input: a name, or a number from 1 in a table without names; several are joined by "+".
        output: a name or a number.
        header: whether the first row of a table names its columns, though the names are no known ones.
    """

    input: str = ""
    output: str = ""
    header: bool = False

    def dialect(self) -> Dialect | None:
        """Return where input and output are; None if no columns are chosen.

        Raises:
            ExamplesError: only one of the two is chosen.
        """
        inputs = tuple(name for name in map(plain_name, self.input.split(PLUS)) if name)
        output = plain_name(self.output)
        if bool(inputs) != bool(output):
            raise ExamplesError("Choose both columns: that of the input and that of the output.")
        return Dialect(inputs, output) if output else None


@dataclass(frozen=True)
class Row:
    """One row: what to call it, and its cells by the names of their columns, or why it cannot be read."""

    label: str  # "Line 3"
    cells: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a text.

    Attributes:
        rows: in their order.
        dialect: where input and output are; None if each row tells by its own names.
        has_names: whether the columns have names: keys, or the first row of a table.
    """

    rows: Iterator[Row]
    dialect: Dialect | None = None
    has_names: bool = True


def rows_of_text(text: str, columns: Columns) -> Rows:
    """Return the rows of a text.

    Args:
        text: JSON, JSON Lines, or a table with or without names in its first row.
        columns: chosen by hand.

    Raises:
        ExamplesError: it is no JSON though it begins so, or a quotation mark does not close.
    """
    text = plain_text(text)
    if is_json(text):
        return Rows(rows_of_json(text, columns.dialect()), columns.dialect())
    return rows_of_table(text, columns)


def plain_text(text: str) -> str:
    """Return the text without its byte order mark, and with one kind of line break."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def plain_name(name: str) -> str:
    """Return the name of a column as columns are compared."""
    return name.strip().lower()


# --- JSON ---------------------------------------------------------------------


def is_json(text: str) -> bool:
    """Return whether the text is JSON, or is meant to be: a first cell that begins with [ or { is text."""
    text = text.strip()
    if text[:1] not in ("[", "{"):
        return False
    line = first_line(text)
    if any(not has_many_values(part) and read_json(part) is not None for part in (line, text)):
        return True
    if "\t" in line or is_first_cell(line):
        return False
    return MEANT_AS_JSON.match(text) is not None or not any(mark in line for mark in ",;")


def is_first_cell(line: str) -> bool:
    """Return whether a line begins with a JSON value that is the first cell of a table."""
    if has_many_values(line):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    rest = line[end:].lstrip()
    return rest[:1] in (",", ";") and rest[1:].strip()[:1] not in ("", "{", "[")


def read_json(text: str, object_of: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Return the value, or None if the text is no JSON; `object_of` makes an object of its pairs.

    Raises:
        ExamplesError: it may hold so many values that reading them would take seconds.
    """
    require_few_values(text)
    try:
        return json.loads(text, object_pairs_hook=object_of)
    except RepeatedKeyError:
        raise
    except (ValueError, RecursionError):
        return None


def require_few_values(text: str) -> None:
    """Refuse JSON that may hold so many values that reading them would take seconds."""
    if has_many_values(text):
        raise ExamplesError(
            f"The JSON has more than {JSON_MARKS_MAX:,} commas and brackets, far more than the examples that "
            "can be used need. Cut it to those that you want, or write one JSON object a line."
        )


def has_many_values(text: str) -> bool:
    """Return whether the text has so many marks, in text too, that its values could be too many."""
    return sum(map(text.count, ",[{")) > JSON_MARKS_MAX


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs.

    Raises:
        RepeatedKeyError: one key stands twice in it; JSON does not say which of the two is meant.
    """
    if repeated := first_repeated(name for name, _ in pairs):
        raise RepeatedKeyError(repeated, pairs[0])
    return dict(pairs)


def first_repeated(names: Iterable[str]) -> str:
    """Return the first name that stands there twice; empty if there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def rows_of_json(text: str, chosen: Dialect | None) -> Iterator[Row]:
    """Return the rows of a JSON list, of an object that holds one or one for each column, or of JSON Lines.

    Raises:
        ExamplesError: a list is broken, or an object has several lists of rows.
    """
    whole = None if is_json_lines(text) else read_json(text, without_repeats)
    if isinstance(whole, dict):
        whole = without_index(whole)
    if isinstance(whole, dict):
        whole = list_of_rows(whole, chosen, has_lines="\n" in text.strip())
    if isinstance(whole, list):
        return rows_of_list([row for value in whole for row in unwrapped(value)])
    if text.lstrip().startswith("[") and not is_json_lines(text):
        raise ExamplesError(f"The text begins like a JSON list and is none: {fault_of_json(text)}")
    blocks = blocks_of(text)
    return (row for number, block in blocks for row in rows_of_block(number, block))


def list_of_rows(whole: dict[str, Any], chosen: Dialect | None, *, has_lines: bool) -> list[Any] | None:
    """Return the rows that one JSON object holds; None if it is one row, on one line.

    Args:
        whole: the object.
        chosen: the columns chosen by hand.
        has_lines: whether it is written on several lines.

    Raises:
        ExamplesError: it has several lists of rows, or columns of different length.
    """
    if found := next((whole[name] for name in LISTS if isinstance(whole.get(name), list)), None):
        return list(found)
    lists = {} if is_row(whole, chosen) else lists_of_rows(whole, chosen)
    if len(lists) > 1:
        raise ExamplesError(
            f"The JSON object has several lists of rows: {quoted(lists)}. Give the list of one of them alone."
        )
    if lists:
        return next(iter(lists.values()))
    if are_columns(whole):
        return rows_of_columns(whole)
    return [whole] if has_lines else None


def is_row(value: Any, chosen: Dialect | None) -> bool:
    """Return whether an object is a row: it has the chosen columns, or those of a known dialect."""
    names = {plain_name(name) for name in value} if isinstance(value, dict) else set()
    if chosen is not None and chosen.names <= names:
        return True
    return find_dialect(names) is not None or not names.isdisjoint({*CHAT_NAMES, "paragraphs"})


def lists_of_rows(whole: dict[str, Any], chosen: Dialect | None) -> dict[str, list[Any]]:
    """Return the lists of rows in an object and in the objects that it holds, by their keys.

    Where all that it holds are lists of objects, such as the splits of a data set, these are rows under any
    names.
    """
    inner = {
        f"{name}.{key}": cell
        for name, value in whole.items()
        if isinstance(value, dict)
        for key, cell in value.items()
    }
    lists = {name: value for name, value in (whole | inner).items() if are_objects(value)}
    known = {name: rows for name, rows in lists.items() if is_row(rows[0], chosen)}
    return known or (lists if len(lists) == len(whole) else {})


def rows_of_block(number: int, block: str) -> Iterator[Row]:
    """Yield the JSON values of a part that follow each other, as rows; what is wrong ends it.

    Raises:
        ExamplesError: it may hold so many values that reading them would take seconds.
    """
    require_few_values(block)
    decoder, place = json.JSONDecoder(), 0
    while (begin := NOT_BLANK.search(block, place)) is not None:
        number += block.count("\n", place, begin.start())
        place, label = begin.start(), f"Line {number}"
        try:
            _, end = decoder.raw_decode(block, place)
        except (ValueError, RecursionError):
            end = None
        if end is None or not NEXT_VALUE.match(block, end):
            fault = fault_of_json(block[place : place + FAULT_CHARACTERS], number)
            yield Row(label, {}, f"{label} is {NO_OBJECT}: {fault}")
            return
        yield row_of_line(label, block[place:end])
        number += block.count("\n", place, end)
        place = end


def without_index(whole: dict[str, Any]) -> Any:
    """Return columns or rows as lists where the row's number is a key, as `to_json` of pandas writes them."""
    values = list(whole.values())
    if not values or not all(isinstance(value, dict) and value for value in values):
        return whole
    if all(map(str.isdecimal, whole)):
        return values
    if all(value.keys() == values[0].keys() for value in values) and all(map(str.isdecimal, values[0])):
        return {name: [value[index] for index in values[0]] for name, value in whole.items()}
    return whole


def unwrapped(value: Any) -> list[Any]:
    """Return the rows of a value: one beside its number, as the Hub's data set viewer has it, or SQuAD's.

    SQuAD has articles, with paragraphs, with questions: each question is a row, with its context.
    """
    if not isinstance(value, dict):
        return [value]
    if "row_idx" in value and isinstance(value.get("row"), dict):
        return [value["row"]]
    if are_objects(value.get("paragraphs"), "qas"):
        article = {name: cell for name, cell in value.items() if name != "paragraphs"}
        return [article | row for paragraph in value["paragraphs"] for row in unwrapped(paragraph)]
    if are_objects(value.get("qas"), "question"):
        beside = {name: cell for name, cell in value.items() if name != "qas"}
        return [beside | question for question in value["qas"]]
    return [value]


def are_objects(values: Any, *names: str) -> bool:
    """Return whether this is a list of objects that all have these keys, and no conversation."""
    if not isinstance(values, list) or not values or is_chat(values):
        return False
    return all(isinstance(value, dict) and value.keys() >= {*names} for value in values)


def are_columns(whole: Mapping[str, Any]) -> bool:
    """Return whether each value of a JSON object is a list and no conversation."""
    return bool(whole) and all(isinstance(value, list) and not is_chat(value) for value in whole.values())


def rows_of_columns(whole: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the rows of a JSON object that has a list for each column.

    Raises:
        ExamplesError: the lists differ in their length, so it is not known which values belong together.
    """
    if len({len(values) for values in whole.values()}) > 1:
        lengths = ", ".join(f"{quoted([name])} has {len(values):,}" for name, values in whole.items())
        raise ExamplesError(f"The lists differ in length: {lengths}. Give each the same number of values.")
    return [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)]


def row_of_line(label: str, line: str) -> Row:
    """Return one line of JSON Lines as a row."""
    try:
        return row_of_value(label, read_json(line, without_repeats))
    except RepeatedKeyError as error:
        return Row(label, {}, f"{label} {error.reason}")


def is_json_lines(text: str) -> bool:
    """Return whether the first line is a JSON value of its own, and not the whole text."""
    line, _, rest = text.strip().partition("\n")
    return bool(rest) and not has_many_values(line) and read_json(line) is not None


def rows_of_list(values: Sequence[Any], label: str = "Example {}") -> Iterator[Row]:
    """Yield the values as rows, or the messages of one conversation as one row.

    The label has {} for the number of a row, from 1.
    """
    values = [values] if is_conversation(values) else values
    is_no = 'neither a pair (input, output) nor {"input": …, "output": …}.'
    return (row_of_value(label.format(n), value, is_no) for n, value in enumerate(values, start=1))


def row_of_value(label: str, value: Any, is_no: str = f"{NO_OBJECT}. {WRITE_OBJECTS}") -> Row:
    """Return an object, a pair [input, output], or the list of a conversation's messages as a row.

    Args:
        label: what a message calls it.
        value: anything.
        is_no: what another value is not.
    """
    if isinstance(value, Mapping):
        if repeated := first_repeated(plain_name(str(name)) for name in value):
            return Row(label, {}, f"{label} {has_twice(repeated)}")
        return Row(label, {plain_name(str(name)): cell for name, cell in value.items()})
    if is_conversation(value):
        return Row(label, {CHAT_NAMES[0]: value})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == 2:
        return Row(label, dict(zip(("input", "output"), value, strict=True)))
    return Row(label, {}, f"{label} is {is_no}")


# --- tables -------------------------------------------------------------------


def without_bars(text: str) -> str:
    """Return a table of Markdown, with or without its second line, as one with commas, line by line.

    Any other text is returned as it is. Without outer bars and without that line, bars separate only where
    neither tabs nor commas nor semicolons can.
    """
    lines = text.split("\n")
    places = list(islice((place for place, line in enumerate(lines) if line.strip()), SNIFFED_ROWS))
    filled = [lines[place].strip() for place in places]
    has_rule = len(filled) > 1 and MARKDOWN_RULE.fullmatch(filled[1]) is not None and "|" in filled[0]
    if not has_rule and not ((filled and all(map(IN_BARS.fullmatch, filled))) or are_between_bars(filled)):
        return text
    if has_rule:
        lines[places[1]] = ""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for line in map(str.strip, lines):
        cells = UNESCAPED_BAR.split(line.removeprefix("|").removesuffix("|")) if line else []
        writer.writerow(cell.strip().replace("\\|", "|") for cell in cells)
    return table.getvalue()


def are_between_bars(lines: Sequence[str]) -> bool:
    """Return whether “ | ” separates two cells in each of at least two lines, and no other mark does."""
    others = ("\t", ",", ";")
    return (
        len(lines) > 1
        and all(line.count(" | ") == 1 for line in lines)
        and not any(all(mark in line for line in lines) for mark in others)
    )


def rows_of_table(text: str, columns: Columns) -> Rows:
    """Return the rows of a table; its first row may name the columns, in any order."""
    said = EXCEL_SEPARATOR.match(text)
    if said:  # its line stays as a blank one, so that the lines keep their numbers
        text, separator = "\n" * said[0].count("\n") + text[said.end() :], said[1]
    else:
        text = without_bars(text)
        separator = separator_of(text, columns)
    found = rows_with_text(text, separator)
    head = list(islice(found, 2))
    if not head:
        return Rows(iter(()))
    chosen, first = columns.dialect(), head[0][1]
    names = names_of(first)
    if columns.header or are_names(names, chosen):
        two = Dialect((names[0],), names[1]) if len(names) == 2 else None
        dialect = find_dialect(names) or two if chosen is None else with_names(chosen, names)
        below = (named_row(number, row, names, separator) for number, row in chain(head[1:], found))
        return Rows(below, dialect)
    rows = chain(head, found)
    if chosen is not None:
        numbered = (Row(f"Line {number}", numbered_cells(row)) for number, row in rows)
        return Rows(numbered, chosen, has_names=False)
    if len(first) > 2 and [len(row) for _, row in head] == [len(first)] * 2:
        _, _, quoting = SEPARATED_BY[separator].partition("; ")
        hint = f", or {quoting} if there are only two" if quoting else ""
        raise UnknownColumnsError(names if all(map(COLUMN_NAME.fullmatch, names)) else [], len(first), hint)
    return Rows((row_of_two(number, row, separator) for number, row in rows), PAIR, has_names=False)


def names_of(cells: Sequence[str]) -> list[str]:
    """Return these cells as names of columns, each once: a later column of the same name has its number."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = plain_name(cell) or str(number)
        names.append(f"{name} (column {number})" if name in names else name)
    return names


def are_names(names: Sequence[str], chosen: Dialect | None) -> bool:
    """Return whether these cells name columns: the chosen ones, or those of a known dialect."""
    by_name = chosen is not None and not all(name.isdecimal() for name in chosen.names)
    return by_name or find_dialect(names) is not None


def with_names(chosen: Dialect, names: Sequence[str]) -> Dialect:
    """Return the chosen columns by their names, also where they were chosen by their numbers."""
    by_number = {str(number): name for number, name in enumerate(names, start=1)}
    inputs = tuple(name if name in names else by_number.get(name, name) for name in chosen.inputs)
    output = chosen.output
    return Dialect(inputs, output if output in names else by_number.get(output, output))


def separator_of(text: str, columns: Columns) -> str:
    """Return the tab, the comma, or the semicolon of spreadsheets where the comma is the decimal sign.

    Raises:
        ExamplesError: commas and semicolons stand in every line, and nothing tells which of them separate.
    """
    tabs, is_sound = begin_of_table(text, "\t", 1)
    if is_sound and len(tabs[0]) > 1:
        return "\t"
    found = {mark: begin_of_table(text, mark) for mark in (",", ";")}
    sound = {mark: rows for mark, (rows, is_sound) in found.items() if is_sound}
    if not is_sound and not any(len(rows[0]) > 1 for rows in sound.values()) and "\t" in first_line(text):
        return "\t"
    rows = sound or {mark: rows for mark, (rows, _) in found.items()}
    if named := [mark for mark in rows if names_columns(rows[mark], columns)]:
        return named[0]
    in_all = [mark for mark in rows if all(len(row) > 1 for row in rows[mark])]
    if len(in_all) == 2:
        return separator_of_two(rows)
    return in_all[0] if in_all else max(rows, key=lambda mark: sum(len(row) == 2 for row in rows[mark]))


def first_line(text: str) -> str:
    """Return the first line that is not blank."""
    return text.strip().partition("\n")[0]


def begin_of_table(text: str, separator: str, n_rows: int = SNIFFED_ROWS) -> tuple[list[list[str]], bool]:
    """Return the first rows that are not blank, and whether their quotation marks close.

    Where they do not, the rows before are returned, or the first line as the only cell.
    """
    rows: list[list[str]] = []
    try:
        for _, row in islice(filter(lambda found: has_text(found[1]), split_rows(text, separator)), n_rows):
            rows.append(row)
    except BrokenRowError:
        return rows or [[first_line(text)]], False
    return rows or [[""]], True


def names_columns(rows: Sequence[Sequence[str]], columns: Columns) -> bool:
    """Return whether the first row names the chosen columns, or those of a known dialect."""
    names = {plain_name(cell) for cell in rows[0]}
    chosen = columns.dialect()
    return find_dialect(names) is not None if chosen is None else chosen.names <= names


def separator_of_two(rows: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Return the mark that separates where both stand in every line: the other one is part of the text.

    Args:
        rows: the cells of the lines, by the mark that then separates them.

    Raises:
        ExamplesError: each of the two may be part of the text; it shows both readings.
    """
    outside = [mark for mark in rows if not is_punctuation(rows[mark], mark)]
    even = [mark for mark in rows if len({len(row) for row in rows[mark]}) == 1]
    if found := next((marks for marks in (outside, even) if len(marks) == 1), None):
        return found[0]
    comma, semicolon = (quoted(rows[mark][0]) for mark in (",", ";"))
    raise ExamplesError(
        f"Commas or semicolons may separate the columns: the first line is {comma}, or it is {semicolon}. "
        "Put quotation marks around text that has commas or semicolons, or write “input,output” or "
        "“input;output” above the first line."
    )


def is_punctuation(rows: Sequence[Sequence[str]], mark: str) -> bool:
    """Return whether a space follows the mark wherever it stands, or it is a comma between two digits."""
    return all(
        after[:1].isspace() or (mark == "," and before[-1:].isdigit() and after[:1].isdigit())
        for row in rows
        for before, after in pairwise(row)
    )


def split_rows(text: str, separator: str, *, keeps_blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a table with the number of the line it begins on.

    A cell in quotation marks may hold separators and line breaks, and may have blanks around it. Marks that
    follow a blank and do not close before the next separator are part of the text.

    Args:
        text: with "\\n" between its lines.
        separator: one character.
        keeps_blanks: whether blanks around a cell without quotation marks are part of it.

    Raises:
        BrokenRowError: a cell begins with a mark that does not close, or there are too many cells.
    """
    blanks = "[ \u00a0]*" if separator == "\t" else "[ \t\u00a0]*"
    mark = re.escape(separator)
    quoted_cell = re.compile(rf'{blanks}"((?:[^"]|"")*+)"{blanks}(?=[{mark}\n]|\Z)')
    plain_cell = re.compile(rf"[^{mark}\n]*")
    place, line, begins, row = 0, 1, 1, list[str]()
    while True:
        cell = quoted_cell.match(text, place)
        if cell:
            row.append(cell[1].replace('""', '"'))
            line += cell[1].count("\n")
        else:
            cell = plain_cell.match(text, place)
            if cell is None or cell[0].startswith('"') or len(row) == COLUMNS_MAX:
                raise BrokenRowError(begins)
            row.append(cell[0] if keeps_blanks else cell[0].strip())
        place = cell.end() + 1
        if text[cell.end() : place] == separator:
            continue
        yield begins, row
        if place > len(text):
            return
        line += 1
        begins, row = line, []


def numbered_rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of the line it begins on, without the blanks around its cells.

    Quotation marks in columns that tabs separate are just marks where they do not close: such a table was
    typed by hand rather than copied.
    """
    try:
        yield from split_rows(text, separator, keeps_blanks=False)
    except BrokenRowError as error:
        if separator != "\t":
            raise ExamplesError(
                f"The row that begins on line {error.line} is broken: a quotation mark does not close, "
                f"or it has more than {COLUMNS_MAX:,} columns."
            ) from error
        lines = text.split("\n")[error.line - 1 :]
        for number, line in enumerate(lines, start=error.line):
            yield number, [cell.strip() for cell in line.split("\t")]


def rows_with_text(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its line."""
    n_blank = 0
    for number, row in numbered_rows(text, separator):
        if has_text(row):
            yield number, row
        elif (n_blank := n_blank + 1) > BLANK_ROWS_MAX:
            raise ExamplesError(f"More than {BLANK_ROWS_MAX:,} lines are blank. Remove them.")


def has_text(row: Sequence[str]) -> bool:
    """Return whether there is something in a cell of the row."""
    return any(cell.strip() for cell in row)


def named_row(number: int, row: list[str], names: Sequence[str], separator: str) -> Row:
    """Return a row below the names of the columns; a cell too many would be lost, or move the others."""
    label, width = f"Line {number}", len(names)
    if has_text(row[width:]):
        return Row(label, {}, too_many_cells(label, row, f"{width}", separator))
    return Row(label, dict(zip_longest(names, row[:width], fillvalue="")))


def cells_of_column(text: str) -> list[str]:
    """Return the cells of a table of one column, as a spreadsheet copies it; none if it is another text."""
    text = plain_text(text)
    rows = [] if is_json(text) else [row for _, row in numbered_rows(text, "\t") if has_text(row)]
    return [row[0] for row in rows] if all(len(row) == 1 for row in rows) else []


def row_of_two(number: int, row: list[str], separator: str) -> Row:
    """Return a row of a table without names: its input and its output."""
    label = f"Line {number}"
    if has_text(row[2:]):
        return Row(label, numbered_cells(row), too_many_cells(label, row, "two", separator))
    return Row(label, dict(zip(("input", "output"), [*row, ""], strict=False)))


def numbered_cells(row: Sequence[str]) -> dict[str, str]:
    """Return the cells by the numbers of their columns, from 1."""
    return {str(number): cell for number, cell in enumerate(row, start=1)}


def too_many_cells(label: str, row: Sequence[str], expected: str, separator: str) -> str:
    """Return what is wrong with a row that has more cells than there are columns."""
    return f"{label} has {len(row)} columns, not {expected}. They are separated by {SEPARATED_BY[separator]}."
