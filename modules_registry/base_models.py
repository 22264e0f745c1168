"""The library of base models: staff put them in, from a plain transformers folder. No weights are loaded."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from django.db import transaction
from django.db.models import Q

from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from hub_site.common.errors import Refusal
from modules_registry import blobs as modules_registry_blobs
from modules_registry.blobs import store_files
from modules_registry.chat_prompts import ChatPrompt, chat_prompt_of
from modules_registry.core.adapter_config import HUB_NAME
from modules_registry.core.adapter_file import BASE_ITEM_BYTES, open_weights, read_header
from modules_registry.core.base_names import CARD_BASE, base_name_repair, card_base_repairs, is_same_name
from modules_registry.core.base_shapes import BASE_CONFIG, base_files, base_shapes_of
from modules_registry.core.cards import base_models_of
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.core.gate import check_adapter
from modules_registry.files.validation import attach_refusals_to_fields
from modules_registry.indexing import index_module
from modules_registry.models import BaseAlias, BaseModel, BaseModelFile, Version
from modules_registry.selectors import card_of, library_name_of
from modules_registry.storage import Blob

# What transformers needs to load a model and its tokenizer; code and other formats stay outside.
BASE_FILES = (
    BASE_CONFIG,
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def base_model_add(
    *,
    folder: Path,
    name: str,
    revision: str = "",
    sentence: str = "",
    licence: str = "",
    added_by: User | None = None,
) -> tuple[BaseModel, bool]:
    """Put a base model into the library; the second value says whether it is new.

    Modules that named it before it came are checked against it, and become composable where they fit.
    """
    paths = base_paths(folder)
    base = describe_base(name, paths)
    base.sentence, base.licence = sentence, licence
    chat = require_shown_input(chat_prompt_of(folder))
    base.chat_prompt, base.answer_end = chat.prompt, chat.answer_end
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {path.name: stack.enter_context(path.open("rb")) for path in paths}
        with store_files(files, max_bytes=max(path.stat().st_size for path in paths)) as blobs:
            base.revision = revision or digest_of(blobs)
            known = BaseModel.objects.filter(name=name).first()
            if known is not None:
                known = require_same(known, base.revision)
                update_known(known, base)
                return known, False
            require_no_alias(name)
            base.save()
            BaseModelFile.objects.bulk_create(
                BaseModelFile(base=base, path=path, sha256=blob.sha256, size_bytes=blob.size_bytes)
                for path, blob in blobs.items()
            )
            audit_record(actor=added_by, action="base_model.add", subject=name, revision=base.revision)
    recheck_modules(base)
    return base, True


def require_shown_input(chat: ChatPrompt) -> ChatPrompt:
    """Refuse a chat template that makes the same prompt of different inputs."""
    if chat.hides_input:
        message = (
            "Its chat template does not show what the user asks: different inputs give the same prompt. "
            "Repair the template in chat_template.jinja or tokenizer_config.json, or remove it from there: "
            "prompts are then written by a text with {input}."
        )
        raise Refusal("chat_template_hides_input", message)
    return chat


def require_no_alias(name: str) -> None:
    alias = BaseAlias.objects.filter(name__iexact=name).select_related("base").first()
    if alias is not None:
        message = (
            f"{name} is declared as another name of {alias.base.name}: modules that name it are under it. "
            "Delete the alias in the admin first."
        )
        raise Refusal("base_is_alias", message, status=409)


def update_known(known: BaseModel, base: BaseModel) -> None:
    """Write anew what is read from the same files, which an earlier version of the site read otherwise."""
    if known.chat_prompt is None:
        known.chat_prompt, known.answer_end = base.chat_prompt, base.answer_end
    known.layers = base.layers
    known.save(update_fields=["chat_prompt", "answer_end", "layers"])


def recheck_modules(base: BaseModel) -> int:
    """Hold versions that named this base, and are not tied to one yet, against it; return how many fit.

    Those that named it otherwise get its name, whether they fit or not.
    """
    named = Q(base_name__iexact=base.name, base_revision__in=["", "main", base.revision])
    for alias in base.aliases.all():  # a revision of theirs is one of another repository
        named |= Q(base_name__iexact=alias.name)
    waiting = Version.objects.filter(named, base=None, rank__gt=0).select_related("module")
    return sum(recheck_version(version, base) for version in waiting)


@transaction.atomic
def recheck_version(version: Version, base: BaseModel) -> bool:
    """Give a version the base that it named otherwise; it becomes composable if it fits."""
    if version.base_name != base.name:
        version.repairs = [*version.repairs, asdict(base_name_repair(version.base_name, base.name))]
        if not is_same_name(version.base_name, base.name):
            version.base_revision = ""
        version.base_name = base.name
    of_card = card_base_repairs(base_models_of(card_of(version)), base.name, library_name_of)
    others = [made for made in version.repairs if made["code"] != CARD_BASE]
    version.repairs = [*others, *map(asdict, of_card)]
    fits = not version.not_composable and fits_base(version, base)
    version.base = base if fits else None
    version.save(update_fields=["base", "base_name", "base_revision", "repairs"])
    if version.module.current_id == version.pk:
        index_module(version.module_id)
    return fits


def fits_base(version: Version, base: BaseModel) -> bool:
    """Whether its layers are those of the base; if not, it stays published, and its page says so."""
    hashes = dict(version.files.values_list("path", "sha256"))
    store = modules_registry_blobs.store()
    with store.open(hashes[CONFIG_FILE]) as config, store.open(hashes[WEIGHTS_FILE]) as weights:
        try:
            check_adapter(config, weights, base.layers)
        except GateRefusal:
            return False
    return True


def base_paths(folder: Path) -> list[Path]:
    with attach_refusals_to_fields():
        _, weights = base_files(folder)
    return [folder / name for name in BASE_FILES if (folder / name).is_file()] + weights


def describe_base(name: str, paths: Sequence[Path]) -> BaseModel:
    if not HUB_NAME.fullmatch(name):
        raise Refusal(
            "bad_name", f"“{name[:80]}” is not a model's name. Write it as on the Hub: google/flan-t5-large."
        )
    config_path, weights = paths[0], [path for path in paths if path.suffix == ".safetensors"]
    with attach_refusals_to_fields():
        layers = base_shapes_of(config_path, weights)
        parameters = sum(parameters_in(path) for path in weights)
    config = json.loads(config_path.read_bytes())
    architecture = str((config.get("architectures") or [""])[0])
    return BaseModel(
        name=name,
        kind=kind_of(config, architecture),
        architecture=architecture[:100],
        parameters=parameters,
        layers=layers,
    )


def kind_of(config: Mapping[str, Any], architecture: str) -> str:
    if config.get("is_encoder_decoder"):
        return BaseModel.Kind.SEQ2SEQ
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return BaseModel.Kind.CAUSAL
    message = f"“{architecture}” neither decodes alone nor from an encoder. Add a model that generates text."
    raise Refusal("base_kind_not_supported", message)


def parameters_in(path: Path) -> int:
    with open_weights(path) as file:
        return sum(math.prod(tensor.shape) for tensor in read_header(file, BASE_ITEM_BYTES).tensors)


def digest_of(blobs: Mapping[str, Blob]) -> str:
    """A revision for a folder that has none: the sha1 of its files' sha256."""
    canonical = json.dumps({path: blob.sha256 for path, blob in blobs.items()}, sort_keys=True)
    return hashlib.sha1(canonical.encode(), usedforsecurity=False).hexdigest()


def require_same(known: BaseModel, revision: str) -> BaseModel:
    if known.revision != revision:
        message = (
            f"The library has {known.name} at {known.revision[:12]}, and compositions stand on it. "
            "Add the other revision under another name."
        )
        raise Refusal("base_exists", message, status=409)
    return known
