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
from modules_registry.core.prompt_template import INPUT, LENGTH_MAX, unread_statement
from modules_registry.core.prompt_template import KEY as PROMPT_TEMPLATE
from modules_registry.core.strict_json import storable

CARD_BYTES_MAX = 512 * 1024
FRONT_MATTER_CHARACTERS_MAX = 64 * 1024
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
FRONT_MATTER_DEPTH_MAX = 12  # a model-index goes down to 8

FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?)(?:^---[ \t]*(?:\n|\Z))", re.DOTALL | re.MULTILINE)
# A key of a head, with or without comments before it: not a line across the page, and a heading below it.
UNCLOSED = re.compile(
    r"\s*---[ \t]*\n(?:(?=[A-Z])|(?:[ \t]*(?:#.*)?\n)*(?=[\"'a-z_]))"
    r"[\"']?[A-Za-z_][\w-]*[\"']?[ \t]*:[ \t\n]"
)
STATES_TEMPLATE = re.compile(rf"""^[ \t"']*{PROMPT_TEMPLATE}\b""", re.MULTILINE)
UNREAD = "front_matter_"  # how the codes begin that say that a head was not read
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
    return Card(text, _read_front_matter(match[1], _line_of(text, match.start(1))), text[match.end() :])


def without_front_matter(text: str) -> str:
    """The Markdown below a card's front matter, whether that can be read or not."""
    match = FRONT_MATTER.match(text)
    return text[match.end() :] if match else text


@dataclass(frozen=True)
class ReadCard:
    """A card that somebody sent, as far as it can be read, and what was wrong with it."""

    card: Card
    repairs: tuple[Repair, ...] = ()

    @property
    def head_fault(self) -> str:
        """What is wrong with a head that was not read, in sentences; empty if it was, or there is none."""
        return " ".join(repair.sentence for repair in self.repairs if repair.code.startswith(UNREAD))


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
        why = "It has no second line of ---. Write one below its last entry."
        repairs.append(Repair("front_matter_not_closed", _unread_text(text, why)))
    try:
        card = check_card(text.encode())
        said = (*read_license(card.front_matter).repairs, *_template_repairs(card))
        return ReadCard(card, (*repairs, *said))
    except CardRefusal as refusal:
        unread = Repair(refusal.code, _unread_text(text, refusal.message))
        return ReadCard(Card(text, {}, without_front_matter(text)), (*repairs, unread))


def _template_repairs(card: Card) -> tuple[Repair, ...]:
    """What is said of a card that states a prompt template which is none."""
    unread = unread_statement(card.front_matter.get(PROMPT_TEMPLATE), CARD_FILE)
    if not unread:
        return ()
    sentence = (
        f"{unread[0].upper()}{unread[1:]}. It is not used. Write the text that the module was trained with, "
        f"with {INPUT} where an example's input goes, at most {LENGTH_MAX:,} characters."
    )
    return (Repair("card_prompt_template", sentence),)


def _unread_text(text: str, why: str) -> str:
    """What is said of a card whose head was not read: what is lost, and why."""
    match = FRONT_MATTER.match(text)
    states = STATES_TEMPLATE.search(match[0] if match else text)
    lost = f", so its {PROMPT_TEMPLATE} counts as not stated" if states else ""
    return f"Did not read the head of {CARD_FILE}{lost}. {why}"


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


def _read_front_matter(source: str, first_line: int) -> dict[str, Any]:
    """Read the text between the two lines of ---, whose first line has this number in the file."""
    if len(source) > FRONT_MATTER_CHARACTERS_MAX:
        raise CardRefusal(
            "front_matter_too_large",
            f"Its front matter exceeds {FRONT_MATTER_CHARACTERS_MAX:,} characters. Shorten it.",
        )
    try:
        _check_events(source, first_line)
        value = yaml.load(source, Loader=CardLoader)
    except yaml.YAMLError as error:
        raise CardRefusal(
            "front_matter_not_yaml",
            f"Its front matter is not valid YAML{_place(error, source, first_line)}. Correct that place: "
            f"{_remedy(error, source)}",
        ) from error
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise CardRefusal(
            "front_matter_not_a_mapping",
            f"Its front matter, from line {first_line} on, must be lines of the form key: value.",
        )
    if not all(storable(text) for text in _texts(value)):
        raise CardRefusal("card_unstorable_text", "Its front matter holds a NUL character. Remove it.")
    return value


def _check_events(source: str, first_line: int) -> None:
    """Look at the YAML before anything is built from it."""
    depth = 0
    for event in yaml.parse(source, Loader=yaml.CBaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise CardRefusal(
                "front_matter_alias",
                "Its front matter uses & or * references (line "
                f"{_line_at(source, event.start_mark, first_line)}). Write the values out, or put text that "
                "begins with & or * in quotes.",
            )
        if isinstance(event, OPENS):
            depth += 1
        elif isinstance(event, CLOSES):
            depth -= 1
        if depth > FRONT_MATTER_DEPTH_MAX:
            raise CardRefusal(
                "front_matter_too_deep",
                f"Its front matter is nested more than {FRONT_MATTER_DEPTH_MAX} levels deep (line "
                f"{_line_at(source, event.start_mark, first_line)}). Flatten it.",
            )


def _line_at(source: str, mark: Any, first_line: int) -> int:
    """The number of the line of a place in the front matter: a mark of PyYAML, or None for its beginning.

    YAML ends lines at more characters than an editor, so its own number is not taken.
    """
    return first_line + source.count("\n", 0, mark.index if mark else 0)


def _place(error: yaml.YAMLError, source: str, first_line: int) -> str:
    """Where a text stopped to be YAML, and as what."""
    if isinstance(error, yaml.MarkedYAMLError):
        marks = (error.context_mark, error.problem_mark) if _is_unclosed(error) else (error.problem_mark,)
        lines = sorted({_line_at(source, mark, first_line) for mark in marks})
        numbers = f"line{'s' if len(lines) > 1 else ''} {' to '.join(map(str, lines))}"
        return f" ({numbers}: {error.problem})"
    if isinstance(error, yaml.reader.ReaderError):
        line = first_line + source.encode()[: error.position].count(b"\n")
        return f" (line {line}: a character that YAML forbids)"
    return ""


def _is_unclosed(error: yaml.MarkedYAMLError) -> bool:
    """Whether a bracket or a quote is open; it may have been opened lines before."""
    return bool(re.search("flow|quoted", error.context or ""))


def _remedy(error: yaml.YAMLError, source: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return "leave that character out."
    if isinstance(error, yaml.MarkedYAMLError) and _is_unclosed(error):
        return "close the bracket or the quote that is open there, or put the whole text in quotes."
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    before = source[: mark.index + 1] if mark else ""
    if before.rpartition("\n")[2].lstrip(" ").startswith("\t"):
        return "indent it with spaces, not with tabs."
    return "text with a colon, or with one of { [ @ % ` # at its beginning, needs quotes around it."


def _line_of(text: str, position: int) -> int:
    """The number of the line that holds this position, counted from 1."""
    return text.count("\n", 0, position) + 1


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _texts(list(pair))
