"""What a card says of its module: a sentence, tags, the license, a name."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from hub_site.accounts.names import is_well_formed
from hub_site.common.errors import Refusal
from modules_registry.core.cards import Card, license_of
from modules_registry.tags import TAGS_MAX, normalize_tags

SENTENCE_LENGTH_MAX = 300
FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]")
SENTENCE_LENGTH_MIN = 20  # shorter ones are leftovers of a template
PARAGRAPH_LENGTH_MAX = 2000  # read of one; a stranger's paragraph may be the whole card
NAMES_SHOWN_MAX = 3
SAMPLE_CHARACTERS_MAX = 300  # of an input or an output
# True of every module here, or of how it was made: nobody searches for these.
TAGS_OF_ALL = frozenset({
    *("adapter", "adapters", "generated-from-trainer", "lora", "peft", "pytorch", "safetensors"),
    *("text-generation-inference", "text2text-generation", "transformers"),
})  # fmt: skip
TEMPLATE = re.compile(
    r"more information needed|has been generated automatically|aims to be a base template"
    r"|was pushed to the hub|proofread and complete|quantization config|framework versions",
    re.IGNORECASE,
)
DESCRIBES = re.compile(r"about|description|details|overview|summary|what|intended", re.IGNORECASE)
HEADING = re.compile(r"(?P<level>#{1,6})\s+(?P<words>.*)")
PROSE = re.compile(r"[^\W\d_`#>|!<*-]|[*_\[]", re.UNICODE)  # how a paragraph of words may begin
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
FENCE = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.DOTALL | re.MULTILINE)
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
MARKS = re.compile(r"<[^<>]*>|[*`]+|(?<!\w)_+|_+(?!\w)")
CELL_END = re.compile(r"(?<!\\)\|")  # in a row of a table
TABLE_LINE = frozenset(" \t:|-")  # what the line below its head is made of
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_])")


@dataclass(frozen=True)
class CardFacts:
    sentence: str
    tags: list[str]
    licence: str


@dataclass(frozen=True)
class Sample:
    """One input of a module, and what it answers, as its card says."""

    input: str
    output: str


def card_facts(card: Card, *, repo_id: str, base: str) -> CardFacts:
    """Args: base: the name of the base model, as the adapter has it now."""
    front_matter = card.front_matter
    return CardFacts(
        sentence=sentence_in(card.body) or sentence_without_card(front_matter, repo_id, base),
        tags=tags_in(front_matter),
        licence=license_of(card) or "unknown",
    )


def sample_in(card: Card) -> Sample | None:
    """The first example of a card that is short enough: of its head's `widget`, else of its first table with
    the columns input and output."""
    for text, answer in (*widget_pairs(card.front_matter), *table_pairs(card.body)):
        pair = " ".join(text.split()), " ".join(answer.split())
        if all(0 < len(part) <= SAMPLE_CHARACTERS_MAX for part in pair):
            return Sample(*pair)
    return None


def widget_pairs(front_matter: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Inputs with their outputs, as the Hub's cards list them: plain text, or the last message of a chat."""
    widget = front_matter.get("widget")
    for entry in widget if isinstance(widget, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("output"), dict):
            continue
        messages = entry.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else {}
        asked = entry.get("text") or (last.get("content") if isinstance(last, dict) else "")
        answer = entry["output"].get("text")
        if isinstance(asked, str) and isinstance(answer, str):
            yield asked, answer


def table_pairs(body: str) -> Iterator[tuple[str, str]]:
    """The rows of the first table whose head has the columns input and output."""
    lines = FENCE.sub("\n", COMMENT.sub("", body)).splitlines()
    for number, (head, below) in enumerate(pairwise(lines)):
        names = [name.casefold() for name in cells(head)]
        if {"input", "output"} <= set(names) and "-" in below and TABLE_LINE.issuperset(below):
            asked, answer = names.index("input"), names.index("output")
            for row in map(cells, takewhile(str.strip, lines[number + 2 :])):
                if len(row) > max(asked, answer):
                    yield row[asked], row[answer]
            return


def cells(line: str) -> list[str]:
    """The cells of a table's row, without the marks of code."""
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [cell.replace("\\|", "|").strip().strip("`").strip() for cell in CELL_END.split(inside)]


def name_in(front_matter: dict[str, Any]) -> str:
    """What the card calls the module; empty if it says nothing that can be a name here."""
    index = front_matter.get("model-index")
    listed = (
        [entry.get("name") for entry in index if isinstance(entry, dict)] if isinstance(index, list) else []
    )
    return next(
        (name for name in texts([front_matter.get("model_name"), *listed]) if is_well_formed(name)), ""
    )


def tags_in(front_matter: dict[str, Any]) -> list[str]:
    """The card's tags and languages, those that can be tags here; one text may name several with commas."""
    return read_tags([*texts(front_matter.get("tags")), *texts(front_matter.get("language"))])[0]


def tags_left_out(front_matter: dict[str, Any]) -> list[str]:
    """The card's tags that are none here: for their characters or length, or because there are too many."""
    return read_tags(texts(front_matter.get("tags")))[1]


def read_tags(named: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tags as they are written here, once each; and as they were named, those that are left out."""
    found: dict[str, str] = {}
    refused = []
    for text in (part.strip() for several in named for part in several.split(",")):
        try:
            found |= dict.fromkeys(normalize_tags([text]), text)
        except Refusal:
            refused.append(text)
    tags = [tag for tag in found if tag not in TAGS_OF_ALL]
    return tags[:TAGS_MAX], [*refused, *(found[tag] for tag in tags[TAGS_MAX:])]


def sentence_in(body: str) -> str:
    """The beginning of the first paragraph that describes the module, as plain text; empty if none does."""
    for paragraph in describing_paragraphs(body):
        text = plain(paragraph)
        if len(text) >= SENTENCE_LENGTH_MIN and not TEMPLATE.search(text):
            return shorten(text)
    return ""


def describing_paragraphs(body: str) -> Iterator[str]:
    """Paragraphs of words before the first section, or in a section whose heading promises a description."""
    describes = True
    for block in re.split(r"\n\s*\n", FENCE.sub("\n\n", COMMENT.sub("", body))):
        lines = block.strip().splitlines()
        while lines and (heading := HEADING.match(lines[0])):
            describes = heading["level"] == "#" or bool(DESCRIBES.search(heading["words"]))
            lines = lines[1:]
        if describes and lines and PROSE.match(lines[0]) and not lines[0].startswith(("- ", "* ")):
            yield " ".join(lines)[:PARAGRAPH_LENGTH_MAX]


def plain_text(body: str) -> str:
    """All words of a card's Markdown, code and comments left out."""
    return plain(FENCE.sub(" ", COMMENT.sub("", body)))


def plain(paragraph: str) -> str:
    return " ".join(MARKS.sub("", LINK.sub(r"\1", FOOTNOTE.sub("", IMAGE.sub("", paragraph)))).split())


def shorten(text: str) -> str:
    """Whole sentences as far as they fit, or the words that do."""
    if len(text) <= SENTENCE_LENGTH_MAX:
        return text
    kept = ""
    for sentence in SENTENCE_END.split(text):
        if len(kept) + len(sentence) + 1 > SENTENCE_LENGTH_MAX:
            break
        kept = f"{kept} {sentence}".strip()
    return kept or text[: SENTENCE_LENGTH_MAX - 1].rpartition(" ")[0] + "…"


def sentence_without_card(front_matter: dict[str, Any], repo_id: str, base: str) -> str:
    """What is known of a module whose card says nothing: its base, its data sets, its name."""
    kind = f"A LoRA for {base}" if base else "A LoRA"
    if data_sets := texts(front_matter.get("datasets")):
        return shorten(f"{kind}, trained on {join_names(data_sets)}.")
    words = re.sub(r"[-_.]+", " ", repo_id.rpartition("/")[2]).strip()
    return shorten(f"{kind}, known as “{words}” on the Hub.")


def join_names(names: Sequence[str]) -> str:
    shown = list(names[:NAMES_SHOWN_MAX])
    if len(names) > NAMES_SHOWN_MAX:
        shown.append(f"{len(names) - NAMES_SHOWN_MAX} more")
    *first, last = shown
    return f"{', '.join(first)} and {last}" if first else last


def texts(value: object) -> list[str]:
    """One text or a list of texts; anything else is none."""
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]
