"""A commit's body: one JSON object per line, where a line may hold a whole file as base64.

Nothing is ever read whole. A file's content is decoded in pieces into a temporary file while it is read;
only what stands around it is kept, and bounded.
"""

import binascii
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.conf import settings

from hub_site.common.json_bodies import JsonBodyError, read_json
from modules_registry.hub_api.errors import HubProtocolError

PIECE_BYTES = 1024**2
LINE_MAX_BYTES = 256 * 1024  # without a file's content
OPERATIONS_MAX = 2000
CONTENT = re.compile(rb'"content"\s*:\s*"')  # within a JSON text its quotes would be escaped


@dataclass(frozen=True)
class Operation:
    """One line of a commit."""

    key: str  # "header", "file", "lfsFile", "deletedFile", …
    value: dict[str, Any]
    content: BinaryIO | None = None  # of a file, decoded


def read_operations(stream: BinaryIO, stack: ExitStack) -> Iterator[Operation]:
    """Read a body to its end; the stack closes the temporary files."""
    lines, count = Lines(stream), 0
    while (head := lines.head()) is not None:
        text, has_content = head
        content = None
        if has_content:
            content = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115
            stack.callback(content.close)
            lines.decode_into(content)
            text += b'"' + lines.tail()
        if not text.strip():
            continue
        count += 1
        if count > OPERATIONS_MAX:
            raise HubProtocolError(400, f"A commit may hold {OPERATIONS_MAX} operations at most.")
        yield operation(text, content)


def operation(text: bytes, content: BinaryIO | None) -> Operation:
    try:
        line = read_json(text, is_stored=False)
    except JsonBodyError as error:
        raise HubProtocolError(400, f"A line of the commit cannot be read. {error}") from error
    key, value = (line.get("key"), line.get("value")) if isinstance(line, dict) else (None, None)
    if not isinstance(key, str) or not isinstance(value, dict):
        raise HubProtocolError(400, 'A line of the commit must be {"key": ..., "value": {...}}.')
    if (key == "file") != (content is not None):
        raise HubProtocolError(
            400, "A line of the commit must hold its file as base64 text in value.content."
        )
    return Operation(key, value, content)


class Lines:
    """The lines of a stream, with the large base64 texts in them taken out in pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.buffer, self.is_over = stream, b"", False

    def head(self) -> tuple[bytes, bool] | None:
        """A line, or its beginning up to a file's content (True); None at the end."""
        while True:
            newline, content = self.buffer.find(b"\n"), CONTENT.search(self.buffer)
            if content and (newline < 0 or content.start() < newline):
                return self.take(content.end()), True
            if newline >= 0:
                return self.take(newline + 1), False
            if len(self.buffer) > LINE_MAX_BYTES + PIECE_BYTES:
                raise too_long()
            if not self.fill():
                return (self.take(len(self.buffer)), False) if self.buffer else None

    def tail(self) -> bytes:
        """The rest of a line."""
        while (newline := self.buffer.find(b"\n")) < 0 and self.fill():
            if len(self.buffer) > LINE_MAX_BYTES + PIECE_BYTES:
                raise too_long()
        rest = self.take(newline + 1 if newline >= 0 else len(self.buffer))
        if len(rest) > LINE_MAX_BYTES:
            raise too_long()
        return rest

    def decode_into(self, file: BinaryIO) -> None:
        """Decode base64 up to the quote that ends it, which is taken too."""
        carried, is_padded = b"", False
        while True:
            quote = self.buffer.find(b'"')
            text = carried + self.take(quote if quote >= 0 else len(self.buffer))
            whole = len(text) if quote >= 0 else len(text) // 4 * 4
            if text[:whole]:
                if is_padded:
                    raise not_base64()
                file.write(decode_base64(text[:whole]))
                is_padded = text[:whole].endswith(b"=")
            carried = text[whole:]
            if quote >= 0:
                self.take(1)
                file.seek(0)
                return
            if not self.fill():
                raise HubProtocolError(400, "The commit ends in the middle of a file. Send it again.")

    def take(self, count: int) -> bytes:
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def fill(self) -> bool:
        piece = b"" if self.is_over else self.stream.read(PIECE_BYTES)
        self.is_over = not piece
        self.buffer += piece
        return bool(piece)


def decode_base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise not_base64() from error


def not_base64() -> HubProtocolError:
    return HubProtocolError(400, "A file of the commit is not base64.")


def too_long() -> HubProtocolError:
    return HubProtocolError(400, f"A line of the commit is longer than {LINE_MAX_BYTES // 1024} KB.")
