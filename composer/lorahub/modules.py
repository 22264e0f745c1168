"""LoraHub's modules: found on a Hub or in a folder, and converted where they are pickled."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from composer.core.modules.sources import MODULE_FILES, Source, as_folder, download_source
from composer.core.spec.errors import (
    BaseModelError,
    InvalidJobError,
    MismatchedModulesError,
    ModuleUnreadableError,
    SourceError,
)
from composer.library.inputs import as_text
from modules_registry.core.errors import CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE, CheckpointRefusal
from modules_registry.core.legacy_checkpoint import convert


def find_paper_modules(references: Sequence[object], folder: Path) -> list[Source]:
    """Return the files of modules: names of a Hub or folders.

    The modules of the paper have pickled weights. They are read without unpickling, and written to `folder`
    as safetensors.

    Raises:
        InvalidJobError: a reference is neither.
        SourceError: there is no such module.
        ModuleUnreadableError: its pickled weights are not a flat dictionary of tensors.
    """
    return [
        find_paper_module(module_name(reference), folder / str(number))
        for number, reference in enumerate(references, start=1)
    ]


def require_all_fit(n_fitting: int, n_modules: int) -> None:
    """Refuse to search without some of the modules: each has to get a weight.

    Raises:
        MismatchedModulesError: fewer fit than were given.
    """
    if n_fitting < n_modules:
        raise MismatchedModulesError(
            f"Of {n_modules} modules only {n_fitting} agree. LoraHub needs the same rank, the same target "
            "modules and the same alpha / r. composer.compose takes any."
        )


def module_name(reference: object) -> str:
    """Return the reference as text.

    Raises:
        InvalidJobError: it is neither text nor a path.
    """
    if not isinstance(reference, str | os.PathLike):
        raise InvalidJobError(f"A module is a Hub's name or a folder, not {type(reference).__name__}.")
    return as_text(reference)


def find_paper_module(reference: str, folder: Path) -> Source:
    """Return the files of one module; converted weights are written to `folder`."""
    source = as_folder(reference) or download_source(reference, MODULE_FILES)
    if (source.folder / WEIGHTS_FILE).is_file() and (source.folder / CONFIG_FILE).is_file():
        return source
    if as_folder(reference) is None:
        download_source(reference, [LEGACY_FILE])  # into the same snapshot
    if not ((source.folder / LEGACY_FILE).is_file() and (source.folder / CONFIG_FILE).is_file()):
        raise SourceError(f"{reference} holds no LoRA module: it has no {WEIGHTS_FILE} or no {CONFIG_FILE}.")
    folder.mkdir(parents=True)
    for name in (CONFIG_FILE, LEGACY_FILE):
        shutil.copyfile(source.folder / name, folder / name)
    try:
        convert(folder, lambda event: None)
    except CheckpointRefusal as refusal:
        raise ModuleUnreadableError(source.name, refusal.message.rstrip(".")) from refusal
    (folder / LEGACY_FILE).unlink()
    return Source(source.name, folder, source.revision)


def base_of(module: Source) -> str:
    """Return the name of the base model that a module was trained for.

    Raises:
        BaseModelError: the module does not name it.
    """
    try:
        config = json.loads((module.folder / CONFIG_FILE).read_text(encoding="utf-8"))
        name = config["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise BaseModelError(f"{module.name} names no base model. Give one: model_name_or_path=…")
    return name
