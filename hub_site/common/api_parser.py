"""The JSON that the API reads: of two values with one key, one would be lost in silence."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.utils.json import strict_constant


class EachKeyOnceParser(JSONParser):
    """JSON as Django REST framework reads it, in which no object has a key twice."""

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        encoding = (parser_context or {}).get("encoding", settings.DEFAULT_CHARSET)
        try:
            text = stream.read().decode(encoding)
            return json.loads(text, parse_constant=strict_constant, object_pairs_hook=each_key_once)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body cannot be read as JSON: {error}") from error


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; a ValueError if a key stands twice in it."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"an object has the key “{name[:80]}” twice. Remove one of the two.")
    return dict(pairs)
