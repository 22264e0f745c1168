"""A stored file as its page shows it: JSON and Markdown as text, of weights the header."""

import json
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.safestring import SafeString

from modules_registry.blobs import open_stored
from modules_registry.core.adapter_file import BASE_ITEM_BYTES, TensorEntry, read_header
from modules_registry.core.cards import without_front_matter
from modules_registry.core.errors import ConfigRefusal, WeightsRefusal
from modules_registry.core.sizes import size_in_words
from modules_registry.models import StoredFile
from modules_registry.rendering import shown_card

SHOWN_BYTES_MAX = 256 * 1024  # a longer text is downloaded, not shown
TENSORS_SHOWN_MAX = 2_000
LINES_SHOWN_MAX = 500
TEXT_ENDINGS = (".json", ".jsonl", ".md", ".txt", ".jinja", ".model", ".yaml", ".yml", ".gitattributes")


@dataclass(frozen=True)
class ShownFile:
    """What the page of a file shows; one of text, html and tensors, or a sentence why there is none."""

    text: str = ""
    html: SafeString | None = None
    tensors: tuple[TensorEntry, ...] = ()
    tensors_count: int = 0
    header_bytes: int = 0
    why_not: str = ""
    matches: tuple[
        tuple[int, str], ...
    ] = ()  # lines of the text that hold what is searched, with their numbers
    matches_count: int = 0


def show_file(file: StoredFile, words: str = "") -> ShownFile:
    """Read as much of a stored file as its page shows.

    Args:
        words: only tensors with this in their name, and lines of a text that hold it, in any case.
    """
    if file.path.endswith(".safetensors"):
        with open_stored(file.sha256) as stored:
            return show_header(stored, file.size_bytes, words)
    if not file.path.lower().endswith(TEXT_ENDINGS):
        return ShownFile(why_not="Only text and the headers of weights are shown here.")
    if file.size_bytes > SHOWN_BYTES_MAX:
        shown = size_in_words(SHOWN_BYTES_MAX)
        return ShownFile(why_not=f"It is too long to be shown here: at most {shown} are.")
    with open_stored(file.sha256) as stored:
        data = stored.read(SHOWN_BYTES_MAX)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ShownFile(why_not="It is no text in UTF-8.")
    if words:
        return found_lines(indented(text) if file.path.endswith(".json") else text, words)
    if file.path.lower().endswith(".md"):
        return ShownFile(text=text, html=shown_card(without_front_matter(text)).html)
    return ShownFile(text=indented(text) if file.path.endswith(".json") else text)


def found_lines(text: str, words: str) -> ShownFile:
    """The lines of a text that hold the words."""
    found = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if words.casefold() in line.casefold()
    ]
    return ShownFile(text=text, matches=tuple(found[:LINES_SHOWN_MAX]), matches_count=len(found))


def show_header(file: BinaryIO, size_bytes: int, words: str = "") -> ShownFile:
    """The tensors that the header of a safetensors file lists, in the order of their bytes."""
    try:
        header = read_header(file, BASE_ITEM_BYTES, size_bytes=size_bytes)
    except (ConfigRefusal, WeightsRefusal) as refusal:
        return ShownFile(why_not=refusal.message)
    found = [tensor for tensor in header.tensors if words.casefold() in tensor.name.casefold()]
    return ShownFile(
        tensors=tuple(found[:TENSORS_SHOWN_MAX]),
        tensors_count=len(header.tensors),
        header_bytes=header.data_start,
        matches_count=len(found),
    )


def indented(text: str) -> str:
    """JSON with line breaks; what is no JSON as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
