"""Model cards: a README.md of Markdown with optional YAML front matter between two lines of ---.

YAML from strangers is read as plain text, lists and mappings. There are no tags, no aliases (a few hundred
bytes of them can stand for gigabytes), and no guesses: `no` is a language here, not False.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from modules_registry.core.adapter_config import is_base_name
from modules_registry.core.errors import CARD_FILE, CardRefusal, Repair
from modules_registry.core.licenses.reading import read_license
from modules_registry.core.strict_json import storable

CARD_BYTES_MAX = 512 * 1024
FRONT_MATTER_CHARACTERS_MAX = 64 * 1024
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
FRONT_MATTER_DEPTH_MAX = 12  # a model-index goes down to 8

FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)(?:^---[ \t]*(?:\n|\Z))", re.DOTALL | re.MULTILINE)
UNCLOSED = re.compile(r"---[ \t]*\n[A-Za-z_]\w*:(?:[ \t]|\n)")  # a key of a head, not a line across the page
NULL = re.compile(r"(?:~|null|Null|NULL|None)\Z")  # None, as Python writes it
OPENS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
CLOSES = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


class CardLoader(yaml.CBaseLoader):
    """Reads every value as text; null without quotes, which names nothing, as the empty text."""


NULL_TAG = "tag:yaml.org,2002:null"
CardLoader.add_implicit_resolver(NULL_TAG, NULL, ["~", "n", "N"])
CardLoader.add_constructor(NULL_TAG, lambda loader, node: "")


@dataclass(frozen=True)
class Card:
    """An accepted card."""

    text: str  # the whole file
    front_matter: dict[str, Any]  # text, lists and mappings of text
    body: str  # the Markdown below the front matter


def check_card(data: bytes) -> Card:
    """Accept the bytes of a README.md, or raise a CardRefusal."""
    text = _decode(data)
    match = FRONT_MATTER.match(text)
    if match is None:
        return Card(text, {}, text)
    return Card(text, _read_front_matter(match[1]), text[match.end() :])


@dataclass(frozen=True)
class ReadCard:
    """A card that somebody sent, as far as it can be read, and what was wrong with it."""

    card: Card
    repairs: tuple[Repair, ...] = ()


TOO_LARGE = ReadCard(
    Card("", {}, ""),
    (Repair("card_too_large", f"Left {CARD_FILE} out: it is larger than {CARD_BYTES_MAX // 1024} KB."),),
)


def read_any_card(data: bytes) -> ReadCard:
    """Read the bytes of a README.md whatever is wrong with them: a card never stops a sound adapter."""
    if len(data) > CARD_BYTES_MAX:
        return TOO_LARGE
    text, repairs = _decode_any(data)
    if UNCLOSED.match(text) and not FRONT_MATTER.match(text):
        sentence = f"Did not read the head of {CARD_FILE}: it has no second line of ---."
        repairs.append(Repair("front_matter_not_closed", sentence))
    try:
        card = check_card(text.encode())
        return ReadCard(card, (*repairs, *read_license(card.front_matter).repairs))
    except CardRefusal as refusal:
        sentence = f"Did not read the head of {CARD_FILE}. {refusal.message}"
        match = FRONT_MATTER.match(text)
        body = text[match.end() :] if match else text
        return ReadCard(Card(text, {}, body), (*repairs, Repair(refusal.code, sentence)))


def base_models_of(card: Card) -> tuple[str, ...]:
    """The base models that the card names: one, a list, or none."""
    named = card.front_matter.get("base_model")
    names = named if isinstance(named, list) else [named]
    return tuple(name for name in names if isinstance(name, str) and is_base_name(name))


def license_of(card: Card) -> str:
    """The Hub's identifier of the license that the card names; empty: it names none."""
    return read_license(card.front_matter).licence


def _decode_any(data: bytes) -> tuple[str, list[Repair]]:
    repairs = []
    try:
        text = data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        repairs.append(Repair("card_not_utf8", f"Read {CARD_FILE} as Latin-1: it is not UTF-8."))
    if not storable(text):
        text = "".join(character for character in text if storable(character))
        sentence = f"Left characters out of {CARD_FILE} that cannot be stored."
        repairs.append(Repair("card_unstorable_text", sentence))
    return text.replace("\r\n", "\n").replace("\r", "\n"), repairs


def _decode(data: bytes) -> str:
    if len(data) > CARD_BYTES_MAX:
        raise CardRefusal("card_too_large", f"It is larger than {CARD_BYTES_MAX // 1024} KB. Shorten it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CardRefusal(
            "card_not_utf8", f"Byte {error.start} is not UTF-8. Save it as UTF-8 text."
        ) from error
    if not storable(text):
        raise CardRefusal("card_unstorable_text", "It holds a NUL character. Remove it.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_front_matter(source: str) -> dict[str, Any]:
    if len(source) > FRONT_MATTER_CHARACTERS_MAX:
        raise CardRefusal(
            "front_matter_too_large", f"Its front matter exceeds {FRONT_MATTER_CHARACTERS_MAX:,} characters."
        )
    try:
        _check_events(source)
        value = yaml.load(source, Loader=CardLoader)
    except yaml.YAMLError as error:
        raise CardRefusal(
            "front_matter_not_yaml", f"Its front matter is not valid YAML{_place(error)}. Correct it."
        ) from error
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise CardRefusal(
            "front_matter_not_a_mapping", "Its front matter must be lines of the form key: value."
        )
    if not all(storable(text) for text in _texts(value)):
        raise CardRefusal("card_unstorable_text", "Its front matter holds a NUL character. Remove it.")
    return value


def _check_events(source: str) -> None:
    """Look at the YAML before anything is built from it."""
    depth = 0
    for event in yaml.parse(source, Loader=yaml.CBaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise CardRefusal(
                "front_matter_alias", "Its front matter uses & or * references. Write the values out."
            )
        if isinstance(event, OPENS):
            depth += 1
        elif isinstance(event, CLOSES):
            depth -= 1
        if depth > FRONT_MATTER_DEPTH_MAX:
            raise CardRefusal(
                "front_matter_too_deep",
                f"Its front matter is nested more than {FRONT_MATTER_DEPTH_MAX} levels deep.",
            )


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 2})" if mark else ""  # counted from 1, after the line of ---


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _texts(list(pair))
