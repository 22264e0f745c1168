"""Which template a module was trained with: stated, or recognized by what its trainer left behind.

A template is text with {input} in it, where an example's input goes, or the word chat for the chat template
of the base model. `composer.core.spec.templates` says what composing does with it.

Trainers write no template into an adapter. What they do write, read from their sources:

    TRL            nothing by itself: its quick start shows a chat whatever the module was trained on
    axolotl        its YAML configuration in the card, with the type of every data set
    LLaMA-Factory  the tag `llama-factory`; its board also writes training_args.yaml, with the template
    unsloth        the tag `unsloth`, for chats and bare texts alike: the chat template beside it decides
    any of them    chat_template.jinja or tokenizer_config.json beside the adapter

What is none of these stays unknown, and the page asks.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules_registry.core.cards import (
    CARD_BYTES_MAX,
    FRONT_MATTER,
    Card,
    ReadCard,
    check_card,
    read_any_card,
)
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, CardRefusal
from modules_registry.core.prompt_template import (
    BARE_INPUT,
    CHAT,
    INPUT,
    KEY,
    is_prompt_template,
    unread_statement,
)
from modules_registry.core.strict_json import quote_value

CHAT_TEMPLATE_FILE, TOKENIZER_FILE, BOARD_FILE = (
    "chat_template.jinja", "tokenizer_config.json", "training_args.yaml",
)  # fmt: skip
BY_PRODUCTS = (CHAT_TEMPLATE_FILE, TOKENIZER_FILE, BOARD_FILE)  # that tell of a template
BY_PRODUCT_BYTES_MAX = 4 * 1024**2  # a tokenizer_config.json lists every added token

ENCODER_DECODER = "SEQ_2_SEQ_LM"  # the task type of a base that takes no chats
AXOLOTL = re.compile(r"See axolotl config.*?```ya?ml\n(?P<yaml>.*?)\n```", re.DOTALL)
# Templates of LLaMA-Factory that are no model's chat template. Source: its src/llamafactory/data/template.py
LLAMA_FACTORY_TEXTS = {"default": "Human: {input}\nAssistant:", "empty": INPUT}


@dataclass(frozen=True)
class FoundTemplate:
    """A template, and what it was read from, as the end of a sentence; both empty if nothing tells it.

    Attributes:
        unread: what says of a template that cannot be read, as a sentence without its end; mostly empty.
    """

    template: str = ""
    source: str = ""
    unread: str = ""


def trained_template(
    card: Card, config: Mapping[str, Any], beside: Mapping[str, str], *, base_has_chat: bool = True
) -> str:
    """The template that a module was trained with, as `find_template` tells it; empty if it is not known."""
    return find_template(card, config, beside, base_has_chat=base_has_chat).template


def find_template(
    card: Card, config: Mapping[str, Any], beside: Mapping[str, str], *, base_has_chat: bool = True
) -> FoundTemplate:
    """The template that a module was trained with, and what says so.

    A chat is only recognized where it can be: on a decoder-only base that has a chat template.

    Args:
        config: adapter_config.json as its author sent it.
        beside: other files of the folder by name, those of BY_PRODUCTS; an empty text where only its name is
            known.
        base_has_chat: false where the base is known to be none with a chat template.
    """
    unread = ""
    for stated in (stated_template(card), read_statement(config.get(KEY), CONFIG_FILE)):
        if stated.template:
            return replace(stated, unread=unread)
        unread = unread or stated.unread
    found = recognized_template(card, beside)
    can_chat = base_has_chat and config.get("task_type") != ENCODER_DECODER
    if found.template and (found.template != CHAT or can_chat):
        return replace(found, unread=unread)
    return FoundTemplate(unread=unread or found.unread)


def stated_template(card: Card) -> FoundTemplate:
    """The template that the card itself states."""
    return read_statement(card.front_matter.get(KEY), CARD_FILE)


def read_statement(said: object, file: str) -> FoundTemplate:
    """The template that a file states, or why what it states is none."""
    if unread := unread_statement(said, file):
        return FoundTemplate(unread=unread)
    template = INPUT if said == BARE_INPUT else str(said or "")
    return FoundTemplate(template, f"stated in {file}") if template else FoundTemplate()


def recognized_template(card: Card, beside: Mapping[str, str]) -> FoundTemplate:
    """The template by what a trainer wrote into card and folder; empty if that says nothing."""
    if axolotl := AXOLOTL.search(card.text):
        template = axolotl_template(axolotl["yaml"])
        if not template:
            return FoundTemplate(unread=axolotl_unread(axolotl["yaml"]))
        return FoundTemplate(template, f"read from axolotl's settings in {CARD_FILE}")
    if "llama-factory" in tags_of(card) or BOARD_FILE in beside:
        file = BOARD_FILE if BOARD_FILE in beside else CARD_FILE
        return FoundTemplate(
            llama_factory_template(beside.get(BOARD_FILE, "")), f"what LLaMA-Factory trains with, by {file}"
        )
    file = chat_template_file(beside)
    return FoundTemplate(CHAT, f"taken from {file} beside the adapter") if file else FoundTemplate()


def axolotl_template(source: str) -> str:
    """The one template of all data sets of an axolotl configuration; empty if they differ or need more."""
    data_sets = read_yaml(source).get("datasets")
    if not isinstance(data_sets, list) or not data_sets:
        return ""
    found = {axolotl_data_set_template(one) for one in data_sets}
    (only,) = found if len(found) == 1 else ("",)
    return only


def axolotl_unread(source: str) -> str:
    """What to say of axolotl's settings that tell no template."""
    data_sets = read_yaml(source).get("datasets")
    listed = data_sets if isinstance(data_sets, list) else []
    kinds = [one.get("type") for one in listed if isinstance(one, dict)]
    named = ", ".join(dict.fromkeys(quote_value(kind) for kind in kinds if isinstance(kind, str)))
    return f"axolotl's settings in {CARD_FILE} tell no one template" + (f" (type {named})" if named else "")


def axolotl_data_set_template(data_set: object) -> str:
    kind = data_set.get("type") if isinstance(data_set, dict) else None
    if kind == "chat_template":
        return CHAT
    text = (kind.get("no_input_format") or kind.get("format")) if isinstance(kind, dict) else None
    if not isinstance(text, str) or INPUT in text:  # {input} is a second text beside the instruction there
        return ""
    template = text.replace("{instruction}", INPUT)
    return template if is_prompt_template(template) else ""


def llama_factory_template(board: str) -> str:
    """Without its settings, the chat template: it trains in the format of the model's family."""
    name = read_yaml(board).get("template") if board else None
    return LLAMA_FACTORY_TEXTS.get(str(name), CHAT)


def chat_template_file(beside: Mapping[str, str]) -> str:
    """Which of these files holds a chat template; empty if none does."""
    if CHAT_TEMPLATE_FILE in beside:
        return CHAT_TEMPLATE_FILE
    try:
        tokenizer = json.loads(beside.get(TOKENIZER_FILE) or "{}")
    except (ValueError, RecursionError):
        return ""
    return TOKENIZER_FILE if isinstance(tokenizer, dict) and tokenizer.get("chat_template") else ""


def tags_of(card: Card) -> set[str]:
    tags = card.front_matter.get("tags")
    return {tag.lower() for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()


def read_yaml(source: str) -> dict[str, Any]:
    """A stranger's YAML, with the limits of a card's front matter; nothing if it cannot be read."""
    try:
        return check_card(f"---\n{source}\n---\n".encode()).front_matter
    except CardRefusal:
        return {}


# --- a folder of this machine, and a card that states it ------------------------


def template_of_folder(folder: Path) -> FoundTemplate:
    """The template of the module in a folder, as `find_template` tells it."""
    texts = dict(text_files(folder, (CONFIG_FILE, *BY_PRODUCTS)))
    try:
        config = json.loads(texts.pop(CONFIG_FILE, "{}"))
    except (ValueError, RecursionError):
        config = {}
    return find_template(read_card_of(folder).card, config if isinstance(config, dict) else {}, texts)


def read_card_of(folder: Path) -> ReadCard:
    """The card of the module in a folder, as far as it can be read; an empty one if there is none."""
    try:
        with (folder / CARD_FILE).open("rb") as file:
            return read_any_card(file.read(CARD_BYTES_MAX + 1))
    except OSError:
        return read_any_card(b"")


def text_files(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The files of these names that are there, as far as they are read."""
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                yield name, file.read(BY_PRODUCT_BYTES_MAX).decode("utf-8-sig", "replace")
        except OSError:
            continue


STATED = re.compile(rf"^{KEY}[ \t]*:.*\n(?:[ \t]+.*\n|[ \t]*\n(?=[ \t]))*", re.MULTILINE)


def card_stating(text: str, template: str) -> str:
    """The card with this template in its front matter, and no other; with none if it is empty."""
    line = f"{KEY}: {json.dumps(template, ensure_ascii=False)}\n" if template else ""
    head = FRONT_MATTER.match(text)
    if head is None:
        return f"---\n{line}---\n\n{text}" if line else text
    return f"---\n{STATED.sub('', head[1])}{line}{text[head.end(1) :]}"
