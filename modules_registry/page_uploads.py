"""An upload by the page: which files of a folder are taken, and what can be said before they are sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from hub_site.accounts.models import Namespace
from hub_site.accounts.names import is_well_formed, require_name
from hub_site.common.errors import Refusal, Refusals
from modules_registry.card_facts import name_in, sentence_in, tags_in
from modules_registry.core.accepted_paths import MODULE_FILES, UploadPlan, left_out_text, plan_upload
from modules_registry.core.adapter_config import BASE_KEY, CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX
from modules_registry.core.adapter_file import BEGINNING_BYTES, is_pickle
from modules_registry.core.advice import WayIn
from modules_registry.core.base_names import choose_base
from modules_registry.core.cards import Card, base_models_of, license_of
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE, FolderRefusal
from modules_registry.core.licenses.reading import license_difference
from modules_registry.core.strict_json import JsonRefusal, parse_object
from modules_registry.files.validation import NO_CARD, check_beginning, has_chat, read_card
from modules_registry.selectors import base_called
from modules_registry.services import require_name_free
from modules_registry.trained_templates import find_template

FIELDS = {
    "config_file": (CONFIG_FILE,),
    "weights_file": (WEIGHTS_FILE, LEGACY_FILE),
    "card_file": (CARD_FILE,),
}
NO_SAMPLES: Mapping[str, bytes] = {}
LEFT_OUT_LENGTH_MAX = 2000  # characters
CHECKPOINT = "checkpoint-"  # a folder that a trainer named: no name for a module
CONVERTED = f"{LEGACY_FILE} is converted to {WEIGHTS_FILE} when it arrives; nothing in it is run."


@dataclass(frozen=True)
class UploadAnswer:
    """What the page shows before anything large is sent."""

    taken: dict[str, str]  # field -> path of the file for it
    left_out: str  # a sentence; empty if nothing is
    errors: dict[str, list[str]]  # by field
    notices: list[str]
    suggestions: dict[str, str] = field(default_factory=dict)  # for fields that are empty


def check_upload(
    *,
    paths: Sequence[str],
    samples: Mapping[str, bytes] = NO_SAMPLES,
    folder: str = "",
    namespace: Namespace | None = None,
    name: str = "",
    base: str = "",
    licence: str = "",
    config_file: BinaryIO | None = None,
    beginning: BinaryIO | None = None,
    weights_size: int = 0,
    card_file: BinaryIO | None = None,
) -> UploadAnswer:
    """Choose among the files of a folder, and hold the beginning of the chosen ones against the gate.

    Args:
        paths: in the folder, with / between their parts.
        samples: by path, how files of weights begin that are not in the place of the adapter's.
        folder: its name.
        beginning: of the weights, with the whole header; the file's size is `weights_size` bytes.
    """
    refusals, plan, notices = Refusals(), UploadPlan((), ()), list[str]()
    with refusals.collect_refusal():
        plan = plan_folder(
            paths, samples, has_config=config_file is not None, has_weights=beginning is not None
        )
    with refusals.collect_refusal():
        if name and namespace is not None:
            require_name(name, field="name", what="a module")
            require_name_free(namespace, name)
    read = read_card(card_file) if card_file else NO_CARD
    suggestions, source = suggest(folder, config_file, read.card, paths, base)
    if source:
        notices.append(
            f"Prompt template, if the field is empty: “{suggestions['prompt_template']}”, {source}."
        )
    if beginning is not None and is_pickle(beginning.read(BEGINNING_BYTES)):
        beginning, notices = None, [*notices, CONVERTED]
    with refusals.collect_refusal():
        notices += check_beginning(config_file, beginning, size_bytes=weights_size, read=read, base_name=base)
    notices += [note.sentence for note in license_difference(read.card.front_matter, licence)]
    left_out = left_out_text(plan.left_out, LEFT_OUT_LENGTH_MAX) if plan.left_out else ""
    return UploadAnswer(files_for_fields(plan), left_out, errors_of(refusals), notices, suggestions)


def plan_folder(
    paths: Sequence[str], samples: Mapping[str, bytes], *, has_config: bool, has_weights: bool
) -> UploadPlan:
    """Which files of a folder are taken.

    Args:
        samples: the beginnings of its weights, as far as the page sent them.

    Raises:
        Refusal: it holds no adapter, and what it lacks was not chosen by itself.
    """
    try:
        plan = plan_upload(paths, way_in=WayIn.FORM, beginning_of=lambda path: samples.get(path, b""))
    except FolderRefusal as refusal:
        raise Refusal(refusal.code, refusal.message, fields={"weights_file": [refusal.message]}) from refusal
    taken = files_for_fields(plan)
    lacking = {
        field: [f"The folder has no {FIELDS[field][0]}. Choose the folder that peft wrote."]
        for field, is_chosen in (("config_file", has_config), ("weights_file", has_weights))
        if paths and field not in taken and not is_chosen
    }
    if lacking:
        raise Refusal("not_an_adapter", "The folder holds no adapter.", fields=lacking)
    return plan


def left_out_of(paths: Sequence[str]) -> tuple[str, ...]:
    """Files of the folder that were not sent."""
    return tuple(path for path in paths if path not in (*MODULE_FILES, LEGACY_FILE))


def files_for_fields(plan: UploadPlan) -> dict[str, str]:
    return {name: file for name, files in FIELDS.items() for file in files if file in plan.taken}


def errors_of(refusals: Refusals) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for refusal in refusals.found:
        for name, messages in refusal.fields.items():
            errors.setdefault(name, []).extend(messages)
    return errors


def suggest(
    folder: str, config_file: BinaryIO | None, card: Card, paths: Sequence[str], base: str
) -> tuple[dict[str, str], str]:
    """What card, config and the folder's name say of the fields; only fields of which they say something.

    Args:
        base: as it was typed.

    Returns:
        The fields' texts, and what the prompt template was read from.
    """
    config = read_object(config_file)
    named = config.get(BASE_KEY)
    chosen = choose_base(named, asked="", card_bases=base_models_of(card))
    known = base_called(str(base or chosen))
    found = find_template(card, config, dict.fromkeys(paths, ""), base_has_chat=has_chat(known))
    said = {
        "name": name_in(card.front_matter) or name_of_folder(folder),
        "base": str(chosen) if config and chosen != named else "",
        "licence": license_of(card),
        "tags": ", ".join(tags_in(card.front_matter)),
        "sentence": sentence_in(card.body),
        "prompt_template": found.template,
    }
    return {name: text for name, text in said.items() if text}, found.source


def read_object(config_file: BinaryIO | None) -> dict[str, Any]:
    """The config as far as it can be read: what is wrong with it, the gate says."""
    if config_file is None:
        return {}
    try:
        return parse_object(config_file.read(CONFIG_BYTES_MAX), depth_max=CONFIG_DEPTH_MAX)
    except JsonRefusal:
        return {}
    finally:
        config_file.seek(0)


def name_of_folder(folder: str) -> str:
    name = PurePosixPath(folder).name
    return name if is_well_formed(name) and not name.startswith(CHECKPOINT) else ""
