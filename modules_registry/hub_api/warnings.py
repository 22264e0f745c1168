"""What a Hub client prints of a request that went well: a line for each header X-HF-Warning: topic; message.

A client prints one message of each topic, so each message is a topic of its own.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import JsonResponse

from modules_registry.core.accepted_paths import left_out_text
from modules_registry.hub_api.errors import to_ascii

HEADER = "X-HF-Warning"
LEFT_OUT_LENGTH_MAX, WARNING_LENGTH_MAX = 5000, 8000  # characters that clients' HTTP libraries take
WARNINGS_MAX = 32  # headers; clients' HTTP libraries take about 100 in all


class WarningResponse(JsonResponse):
    """JSON with warnings, each in a header of its own: Django's headers know no repetition."""

    def __init__(self, data: object, warnings: Sequence[str], **options: Any) -> None:
        super().__init__(data, **options)
        self.warnings = tuple(fitting(warnings))

    def items(self) -> Iterable[tuple[str, str]]:  # type: ignore[override]  # a view of a mapping has each once
        return [*super().items(), *((HEADER, warning) for warning in self.warnings)]


def warning_of(topic: str, sentence: str) -> str:
    """A warning that is printed once by a client, whatever else is of that topic."""
    digest = hashlib.sha256(sentence.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{topic}-{digest}; {sentence}"


def left_out_warning(paths: Sequence[str]) -> str:
    """All that is left out."""
    return warning_of("left-out", left_out_text(paths, LEFT_OUT_LENGTH_MAX))


def fitting(warnings: Sequence[str]) -> list[str]:
    """The warnings as headers, as far as these may be together; the last one says how many there are more."""
    shown: list[str] = []
    for warning in warnings:
        line = to_ascii(warning, length_max=WARNING_LENGTH_MAX)
        if len(shown) == WARNINGS_MAX or sum(map(len, shown)) + len(line) > WARNING_LENGTH_MAX:
            more = f"{len(warnings) - len(shown)} more are on the module's page."
            return [*shown, warning_of("more", more)]
        shown.append(line)
    return shown
