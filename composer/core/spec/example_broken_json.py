"""Which parts of a text may be JSON values, and what is wrong with one that is not."""

import json
from collections.abc import Iterator

from composer.core.spec.example_dialects import quoted

WRITE_OBJECTS = 'Write {"input": "…", "output": "…"}.'
INSIDE_JSON = ' \t}],"'  # how the further lines of a JSON value begin
CLOSING = ("]", "}")
SHOWN_CHARACTERS = 20  # of the text at a fault


def blocks_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of a text that may hold JSON values, each with the number of its first line.

    A part is one line of JSON Lines, or an object over several lines: these are indented, or begin with the
    end of a value or with a key. A list that begins at the end of a part's first line may hold all the rest.
    """
    begins, block, is_open = 1, list[str](), False
    for number, line in enumerate(text.split("\n"), start=1):
        if block and (is_open or not line.strip() or line[0] in INSIDE_JSON):
            block.append(line)
            continue
        if block:
            yield begins, "\n".join(block)
        begins, block = number, [line] if line.strip() else []
        is_open = line.rstrip().endswith("[")
    if block:
        yield begins, "\n".join(block)


def fault_of_json(text: str, named: int = 0) -> str:
    """Return what is wrong with a text that should be one JSON value, as the end of a sentence.

    Args:
        text: no JSON, or more than one value.
        named: the number of its first line, where the sentence has named that line; else it is line 1.
    """
    try:
        json.loads(text)
    except RecursionError:
        return "it is nested too deeply."
    except json.JSONDecodeError as error:
        line = max(named, 1) + text.count("\n", 0, error.pos)
        where = "it" if line == named else f"line {line}"
        return fault_between(text[: error.pos].rstrip(), text[error.pos :].lstrip(), where)
    except ValueError:
        return "a number has too many digits."
    return WRITE_OBJECTS


def fault_between(before: str, behind: str, where: str) -> str:
    """Return what is wrong between the two parts of a text, as the end of a sentence.

    Args:
        before: what could be read as JSON, without blanks at its end.
        behind: the rest, without blanks at its begin.
        where: what the sentence calls the line.
    """
    mark, found = behind[:1], quoted([behind.partition("\n")[0][:SHOWN_CHARACTERS]])
    faults = (
        (before.endswith(",") and mark in CLOSING, f"{where} has a comma before the end. Remove it."),
        (not mark, "it ends before the last bracket or quotation mark closes."),
        (
            mark == "," and before.endswith(CLOSING),
            f"{where} has a comma behind the object. Remove it, or put [ and ] around all the objects.",
        ),
        (
            mark in ("'", "’", "‘", "“", "”"),
            f'{where} has the quotation mark {mark}, where JSON has ". Write it with json.dumps.',
        ),
        (before.endswith("}") and mark == "{", f"{where} lacks a comma between two objects."),
    )
    otherwise = f"{where} cannot be read from {found} on. {WRITE_OBJECTS}"
    return next((fault for is_there, fault in faults if is_there), otherwise)
