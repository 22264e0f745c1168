"""JSON from strangers: one meaning or none.

Python's own reader keeps the last of two equal keys, takes NaN and Infinity, follows any depth, and
lets NUL and half surrogate pairs through to a database that cannot hold them.
"""

import json
import math
import re
from typing import Any, NoReturn

DIGITS_MAX = 19  # enough for any 64-bit number; Python's cost grows with the square of the digits
SHOWN_CHARACTERS = 100
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", *UTF_16_MARKS)
# An unclosed string swallows the rest, so that the search stays linear.
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class JsonRefusal(ValueError):
    """Bytes that are not JSON, or not only one thing. `problem` is a stable snake_case word."""

    def __init__(self, problem: str, message: str) -> None:
        self.problem, self.message = problem, message
        super().__init__(message)


def parse_object(data: bytes, *, depth_max: int) -> dict[str, Any]:
    """Read one JSON object. Its size is the caller's to limit, before the bytes are read."""
    text = _decode(data)
    if _depth(text) > depth_max:
        raise JsonRefusal("too_deep", f"The JSON is nested more than {depth_max} levels deep. Save it again.")
    value = _load(text)
    if not isinstance(value, dict):
        raise JsonRefusal("not_an_object", "The JSON must be one object, in braces. Save it again.")
    return value


def quote_value(value: object) -> str:
    """An uploaded value for a sentence: short, and plain ASCII because it may be sent in a header."""
    text = json.dumps(value, default=str).replace("\x7f", "\\u007f")
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def storable(text: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold this text: no NUL, no half surrogate pair."""
    return UNSTORABLE.search(text) is None


def _decode(data: bytes) -> str:
    """The text: UTF-8, or what a byte order mark says, as some editors and shells on Windows write it."""
    try:
        return data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonRefusal("not_utf8", f"Byte {error.start} is not UTF-8. Save it as UTF-8 text.") from error


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in STRING_OR_BRACKET.finditer(text):
        token = match.group()
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in "]}":
            depth -= 1
    return deepest


def _load(text: str) -> object:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
            parse_float=_number,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise JsonRefusal(
            "not_json", f"It is not valid JSON ({where}: {error.msg}). Save it again."
        ) from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise JsonRefusal(
                "duplicate_key", f"The key {quote_value(key)} stands there twice. Keep one of them."
            )
        _require_storable(key)
        _require_storable(value)
        result[key] = value
    return result


def _require_storable(value: object) -> None:
    if isinstance(value, str) and not storable(value):
        raise JsonRefusal(
            "unstorable_text", f"The text {quote_value(value)} holds a character that cannot be stored."
        )
    if isinstance(value, list):
        for item in value:
            _require_storable(item)


def _refuse_constant(name: str) -> NoReturn:
    raise JsonRefusal("not_finite", f"{name} is not a number this site accepts. Write a finite number.")


def _whole_number(digits: str) -> int:
    if len(digits.lstrip("-")) > DIGITS_MAX:
        raise JsonRefusal(
            "number_too_long", f"A number has more than {DIGITS_MAX} digits. Write a smaller one."
        )
    return int(digits)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonRefusal("not_finite", f"{quote_value(text)} is not a finite number. Write a smaller one.")
    return number
