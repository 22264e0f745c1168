"""Files on their way in: through the gate, then into the store together with the rows that name them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, cast

from hub_site.common.errors import Refusal, Refusals
from modules_registry import selectors
from modules_registry.blobs import FIELD_OF_FILE, storage_refusal, upload_bytes_max
from modules_registry.card_facts import join_names, tags_left_out
from modules_registry.core.adapter_config import AdapterConfig, is_base_name
from modules_registry.core.adapter_file import read_header, sha256_of, size_of
from modules_registry.core.adapter_writing import rewrite_tensors
from modules_registry.core.advice import WayIn
from modules_registry.core.base_names import card_base_repairs, read_config_with_base
from modules_registry.core.cards import (
    CARD_BYTES_MAX,
    Card,
    ReadCard,
    base_models_of,
    check_card,
    read_any_card,
)
from modules_registry.core.compatibility import ModuleFacts, reason_not_composable
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, GateRefusal, Repair
from modules_registry.core.gate import (
    AdapterFacts,
    check_form,
    check_header,
    check_weights,
    describe_adapter,
    seems_copy,
)
from modules_registry.core.prompt_template import KEY as PROMPT_TEMPLATE
from modules_registry.core.prompt_template import LENGTH_MAX as PROMPT_TEMPLATE_LENGTH_MAX
from modules_registry.core.prompt_template import is_prompt_template
from modules_registry.models import BaseModel
from modules_registry.storage import TooLargeError
from modules_registry.tags import TAG_LENGTH_MAX, TAGS_MAX
from modules_registry.trained_templates import card_stating, trained_template

NOTHING_BESIDE: Mapping[str, str] = {}
TAG_SHOWN_MAX = 60  # characters
NO_CARD = ReadCard(check_card(b""))


@dataclass(frozen=True)
class AcceptedFiles:
    """Files that passed the gate, and what they are."""

    facts: AdapterFacts
    base: BaseModel | None
    files: dict[str, BinaryIO]
    prompt_template: str  # that it was trained with; empty if that is not known
    card_repairs: tuple[Repair, ...]  # what was wrong with the card


def check_files(
    config_file: BinaryIO,
    weights_file: BinaryIO,
    card_file: BinaryIO | None,
    *,
    base_name: str = "",
    prompt_template: str = "",
    beside: Mapping[str, str] = NOTHING_BESIDE,
    way_in: WayIn = WayIn.API,
) -> AcceptedFiles:
    """Let files pass the gate, with the shapes of the base they name when the library has it.

    A base name given with them stands in for the one in the config, and so does the card's where the config
    names none; a prompt template stands in for the one in the card. Each file is looked at, whatever is wrong
    with the others.

    Args:
        beside: other files of the folder that they came from, as `trained_template` takes them.
        way_in: for what a person can do there about a refusal.
    """
    refusals, read = Refusals(), read_card(card_file) if card_file else NO_CARD
    with refusals.collect_refusal(), attach_refusals_to_fields():
        require_base_name(base_name)
        config = read_config_under(config_file, read.card, asked=base_name, way_in=way_in)
    with refusals.collect_refusal(), attach_refusals_to_fields():
        require_size(size_of(weights_file))
        if refusals.found:
            check_form(weights_file)
        else:
            base = base_of(config)
            shapes, own = (base.layers, selectors.base_weights_of(base)) if base else (None, None)
            facts = check_weights(config, weights_file, shapes, own)
            facts, weights_file = with_repaired_tensors(facts, weights_file)
    with refusals.collect_refusal():
        require_prompt_template(prompt_template)
    refusals.raise_all()
    text = card_stating(read.card.text, prompt_template) if prompt_template else read.card.text
    # The config is stored as the gate wrote it anew: nothing in it is left that a reader has to trust.
    stored = BytesIO(json.dumps(facts.config, indent=2, sort_keys=True).encode() + b"\n")
    files: dict[str, BinaryIO] = {CONFIG_FILE: stored, WEIGHTS_FILE: weights_file}
    if text or card_file is not None:
        files[CARD_FILE] = BytesIO(text.encode())
    said = read_any_card(text.encode()).card
    stated = {PROMPT_TEMPLATE: facts.prompt_template, "task_type": facts.task_type}
    template = prompt_template or trained_template(said, stated, beside, base_has_chat=has_chat(base))
    return AcceptedFiles(facts, base, files, template, repairs_of_card(read, facts.base))


def check_beginning(
    config_file: BinaryIO | None,
    beginning: BinaryIO | None,
    *,
    size_bytes: int,
    read: ReadCard = NO_CARD,
    base_name: str = "",
) -> tuple[str, ...]:
    """Say what `check_files` would refuse of the config and the header of the weights, before the rest comes.

    Args:
        read: the card.
        beginning: the first bytes of the weights, with the whole header.
        size_bytes: of the whole file.

    Returns:
        In sentences, what would be repaired, and why it could not be composed.
    """
    refusals, said, config, repairs = Refusals(), list[str](), None, tuple[Repair, ...]()
    if config_file is not None:
        with refusals.collect_refusal(), attach_refusals_to_fields():
            require_base_name(base_name)
            config = read_config_under(config_file, read.card, asked=base_name, way_in=WayIn.FORM)
            repairs = config.repairs
    if beginning is not None:
        with refusals.collect_refusal(), attach_refusals_to_fields():
            require_size(size_bytes)
            header = read_header(beginning, size_bytes=size_bytes)
            if config is None:
                check_header(header)
            else:
                base = base_of(config)
                shapes, is_copy = (base.layers, seems_copy) if base else (None, None)
                described = describe_adapter(config, header, shapes, is_copy)
                repairs = described.repairs
                said += [described.not_composable] if described.not_composable else []
    refusals.raise_all()
    of_card = repairs_of_card(read, config.base) if config is not None else read.repairs
    return (*(repair.sentence for repair in (*repairs, *of_card)), *said)


def read_config_under(config_file: BinaryIO, card: Card, *, asked: str = "", way_in: WayIn) -> AdapterConfig:
    """The config, with the base's name as the library has it."""
    return read_config_with_base(
        config_file,
        selectors.library_name_of,
        way_in=way_in,
        asked=asked,
        card_bases=base_models_of(card),
    )


def base_of(config: AdapterConfig) -> BaseModel | None:
    """The library's base of that name, unless the config asks for another revision of it."""
    base = selectors.base_called(config.base)
    module = ModuleFacts("", config.base, config.revision, config.rank, config.scaling, config.targets)
    return None if reason_not_composable(module, selectors.library_of(base)) else base


def has_chat(base: BaseModel | None) -> bool:
    """Whether a module for this base can be one for chats: unless the library's base has no chat template."""
    return base is None or (base.kind == BaseModel.Kind.CAUSAL and base.chat_prompt != "")


def repairs_of_card(read: ReadCard, base_name: str) -> tuple[Repair, ...]:
    """What was wrong with the card of an adapter for this base."""
    of_base = card_base_repairs(base_models_of(read.card), base_name, selectors.library_name_of)
    return (*read.repairs, *of_base, *tags_note(read.card))


def tags_note(card: Card) -> list[Repair]:
    """Which of the card's tags are none here, and what a tag is."""
    left_out = tags_left_out(card.front_matter)
    if not left_out:
        return []
    named = join_names([f"“{tag[:TAG_SHOWN_MAX]}”" for tag in left_out])
    many = "tag" if len(left_out) == 1 else "tags"
    are = "is" if len(left_out) == 1 else "are"
    sentence = (
        f"README.md: The {many} {named} {are} left out. A module has at most {TAGS_MAX} tags, of letters and "
        f"digits, words joined by “-”, up to {TAG_LENGTH_MAX} characters each."
    )
    return [Repair("card_tags_left_out", sentence)]


def with_repaired_tensors(facts: AdapterFacts, weights_file: BinaryIO) -> tuple[AdapterFacts, BinaryIO]:
    """The weights as the gate repaired them, in a temporary file, if it renamed or left out any."""
    if not facts.names and not facts.left_out:
        return facts, weights_file
    repaired = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  it is read until the upload ends
    with attach_refusals_to_fields():
        rewrite_tensors(weights_file, facts.names, facts.left_out, repaired)
    sha256 = sha256_of(repaired)
    return replace(
        facts, weights_sha256=sha256, size_bytes=size_of(repaired), names={}, left_out=frozenset()
    ), repaired


def require_base_name(name: str) -> None:
    if name and not is_base_name(name):
        message = "This names nothing on the Hub. Write the base model's name, like google/flan-t5-large."
        raise Refusal("base_not_a_name", message, fields={"base": [message]})


def require_size(size_bytes: int) -> None:
    if size_bytes > upload_bytes_max():
        raise storage_refusal(TooLargeError(upload_bytes_max()), "weights_file")


def require_prompt_template(template: str) -> None:
    if template and not is_prompt_template(template):
        message = (
            "Write {input} where an example's input goes, as in “Translate: {input}”, or the word chat; at "
            f"most {PROMPT_TEMPLATE_LENGTH_MAX:,} characters."
        )
        raise Refusal("bad_prompt_template", message, fields={"prompt_template": [message]})


def read_card(card_file: BinaryIO) -> ReadCard:
    """A card as somebody sent it; nothing that is wrong with it stops the upload."""
    card_file.seek(0)
    return read_any_card(card_file.read(CARD_BYTES_MAX + 1))


def normalize_card(data: bytes) -> BytesIO:
    """A card that is being edited, as it is stored: UTF-8 with Unix line ends, its front matter readable."""
    with attach_refusals_to_fields():
        return BytesIO(check_card(data).text.encode())


@contextmanager
def attach_refusals_to_fields() -> Iterator[None]:
    """Let the gate's no be said at the field whose file it is about."""
    try:
        yield
    except GateRefusal as refusal:
        field = FIELD_OF_FILE.get(refusal.file, refusal.file)
        raise Refusal(refusal.code, str(refusal), fields={field: [refusal.message]}) from refusal
