"""JSON that a client sends: one reader for every way in, so that no text of it breaks anything behind.

Python's own reader fails on deep nesting with an error of its own, takes NaN and Infinity, keeps the last of
two values with one key, and lets through NUL and half surrogate pairs, which no database holds.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NoReturn

from rest_framework import exceptions
from rest_framework.parsers import JSONParser

DEPTH_MAX = 64  # levels; the deepest request of ours has six
# The largest request of ours has 1,064 examples, in a dialect of 8 values each, or 10,000 names to import.
VALUES_MAX = 50_000  # and as many keys; within a second of one CPU whatever they are
PLACES_MAX = 5  # told of in one answer
PLACE_CHARACTERS_MAX = 200
MARKS = (b",", b"[", b"{")  # one begins each value but the first; between quotes they begin none
# A mark, and all that stands before the next one; an unclosed string swallows the rest.
MARK = re.compile(rb'[,\[{](?:[^",\[{]++|"(?:[^"\\]++|\\.)*+"?)*+', re.DOTALL)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
NOT_TEXT = "This holds characters that are not text. Remove them."


class JsonBodyError(ValueError):
    """A body that is not JSON, or is nested too deeply, or holds what is no text.

    Attributes:
        places: where text is wrong, as “examples.3.input”; empty where the body as a whole is.
    """

    def __init__(self, message: str, places: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.places = places


def read_json(data: bytes, *, is_stored: bool = True) -> Any:
    """Read a body of at most VALUES_MAX values.

    Args:
        is_stored: whether every text of it must be one that can be stored; else who uses a text looks at it.

    Raises:
        JsonBodyError: with a sentence for whoever sent it.
    """
    if has_too_many_values(data):
        raise JsonBodyError(f"The JSON holds more than {VALUES_MAX:,} values. Send less at once.")
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=each_key_once)
        found = unstorable_places(value)  # it measures the depth as well
        places = tuple(islice(found, PLACES_MAX if is_stored else None))
    except RecursionError as error:
        raise too_deep() from error
    except JsonBodyError:
        raise
    except ValueError as error:
        raise JsonBodyError(f"The body is not JSON: {str(error)[:200]}") from error
    if places and is_stored:
        raise JsonBodyError(NOT_TEXT, places)
    return value


def has_too_many_values(data: bytes) -> bool:
    """Return whether JSON would make more than VALUES_MAX values, without making one of them.

    Counting its marks takes microseconds, and only where text could hold most of them it is looked at closer.
    """
    if sum(map(data.count, MARKS)) < VALUES_MAX:
        return False
    return next(islice(MARK.finditer(data), VALUES_MAX - 1, None), None) is not None


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; a ValueError if a key stands twice in it."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"an object has the key “{name[:80]}” twice. Remove one of the two.")
    return dict(pairs)


def refuse_constant(name: str) -> NoReturn:
    raise JsonBodyError(f"The body is not JSON: {name} is no number there.")


def too_deep() -> JsonBodyError:
    return JsonBodyError(f"The JSON is nested more than {DEPTH_MAX} levels deep.")


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL and UTF-8 can hold a text: no NUL, no half surrogate pair."""
    return UNSTORABLE.search(text) is None


def unstorable_places(value: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield where a text, or the name of a key, cannot be stored.

    Raises:
        JsonBodyError: the value is nested too deeply.
    """
    if len(place) > DEPTH_MAX:
        raise too_deep()
    names = value if isinstance(value, dict) else ()
    if not all(map(is_storable, [value] if isinstance(value, str) else names)):
        yield ".".join(place)[:PLACE_CHARACTERS_MAX] or "body"
    for name, inner in inner_values(value):
        yield from unstorable_places(inner, (*place, UNSTORABLE.sub("?", name[:80])))


def inner_values(value: Any) -> Iterable[tuple[str, Any]]:
    """The values in an object or a list, each with its name or its number."""
    if isinstance(value, dict):
        return value.items()
    return ((str(index), inner) for index, inner in enumerate(value)) if isinstance(value, list) else ()


class JsonBodyParser(JSONParser):
    """The API's JSON parser."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return read_json(stream.read())
        except JsonBodyError as error:
            if error.places:
                detail = {place: [str(error)] for place in error.places}
                raise exceptions.ValidationError(detail) from error
            raise exceptions.ParseError(str(error)) from error
