"""A stored file as its page shows it: JSON and Markdown as text, of weights the header."""

import json
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.safestring import SafeString

from modules_registry.blobs import open_stored
from modules_registry.core.adapter_file import BASE_ITEM_BYTES, TensorEntry, read_header
from modules_registry.core.errors import ConfigRefusal, WeightsRefusal
from modules_registry.core.sizes import size_in_words
from modules_registry.models import StoredFile
from modules_registry.rendering import shown_card

SHOWN_BYTES_MAX = 256 * 1024  # a longer text is downloaded, not shown
TENSORS_SHOWN_MAX = 2_000
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


def show_file(file: StoredFile) -> ShownFile:
    """Read as much of a stored file as its page shows."""
    if file.path.endswith(".safetensors"):
        with open_stored(file.sha256) as stored:
            return show_header(stored, file.size_bytes)
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
    if file.path.lower().endswith(".md"):
        return ShownFile(text=text, html=shown_card(without_front_matter(text)).html)
    return ShownFile(text=indented(text) if file.path.endswith(".json") else text)


def show_header(file: BinaryIO, size_bytes: int) -> ShownFile:
    """The tensors that the header of a safetensors file lists, in the order of their bytes."""
    try:
        header = read_header(file, BASE_ITEM_BYTES, size_bytes=size_bytes)
    except (ConfigRefusal, WeightsRefusal) as refusal:
        return ShownFile(why_not=refusal.message)
    return ShownFile(
        tensors=header.tensors[:TENSORS_SHOWN_MAX],
        tensors_count=len(header.tensors),
        header_bytes=header.data_start,
    )


def without_front_matter(text: str) -> str:
    """The Markdown below the card's YAML."""
    if not text.startswith("---\n"):
        return text
    _head, line, body = text[4:].partition("\n---\n")
    return body if line else text


def indented(text: str) -> str:
    """JSON with line breaks; what is no JSON as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
