"""What a caller of the library gives: examples, and models by name, by folder or in memory.

A model in memory is saved into a folder of the caller, because the core reads files. The model itself
does not change.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from composer.core.modules.sources import UNNAMED_BASE, Source, base_source, module_source
from composer.core.spec.errors import BaseModelError, ExamplesError, InvalidJobError, NoExamplesError
from composer.core.spec.example_files import AS_EXPECTED, Reading, read_objects
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import Example
from composer.library.job_folder import OnEvent, examples_in, find_source

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BaseReference: TypeAlias = "str | os.PathLike[str] | PreTrainedModel | PeftModel | Source"
ModuleReference: TypeAlias = "str | os.PathLike[str] | PeftModel | Source"
GivenExample: TypeAlias = "Sequence[object] | Mapping[str, object] | Example"
GivenExamples: TypeAlias = "Iterable[GivenExample] | os.PathLike[str]"


# --- examples -----------------------------------------------------------------


def read_given(
    given: "GivenExamples", limit: int, columns: Columns = AS_EXPECTED, label: str = "Example {}"
) -> Reading:
    """Return the examples of a list or of a file, with notes on what is not used of them.

    Args:
        given: at least one pair, mapping in a known dialect or Example; or the path of a file.
        limit: the most examples that are allowed in a list, and that are used of a file.
        columns: chosen by hand.
        label: what a message calls one of them, with {} for its number.

    Raises:
        ExamplesError: there is none, or too many, or one of them cannot be used.
    """
    if isinstance(given, os.PathLike):
        return examples_in(Path(given).expanduser(), limit, columns)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ExamplesError("The examples must be a list of pairs (input, output), or the Path of a file.")
    values = list(given)
    if not values:
        raise NoExamplesError("There are no examples. Give at least one input with its output.")
    if len(values) > limit:
        raise ExamplesError(f"There are {len(values)} examples; at most {limit} can be used.")
    return read_objects(values, columns, label=label)


# --- models -------------------------------------------------------------------


def find_base(
    reference: BaseReference,
    folder: Path,
    on_event: OnEvent,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    shows_progress: bool = False,
) -> Source:
    """Return the files of a base model.

    Args:
        reference: a Hub's name, a folder or a model in memory.
        folder: a model in memory is saved there.
        on_event: hears which repository is fetched.
        tokenizer: of a model in memory; None takes the one of the name that it was loaded from.
        shows_progress: whether a download draws its progress.

    Raises:
        ComposeError: there is no such model, or it cannot be used.
    """
    if isinstance(reference, Source):
        return reference
    if isinstance(reference, str | os.PathLike):
        return find_source(as_text(reference), partial(base_source, shows_progress=shows_progress), on_event)
    return save_base(reference, folder, tokenizer)


def find_modules(references: Iterable[ModuleReference], folder: Path, on_event: OnEvent) -> list[Source]:
    """Return the files of modules: names of a Hub, folders, or live PeftModels, which are saved in `folder`.

    Raises:
        ComposeError: there is no such module, or it cannot be used.
    """
    return [
        find_module(reference, folder / f"module-{number}", on_event)
        for number, reference in enumerate(references, start=1)
    ]


def find_module(reference: ModuleReference, folder: Path, on_event: OnEvent) -> Source:
    """Return the files of one module; one in memory is saved as `folder`, whose name becomes its own."""
    if isinstance(reference, Source):
        return reference
    if isinstance(reference, str | os.PathLike):
        return find_source(as_text(reference), module_source, on_event)
    return save_module(reference, folder)


def as_text(reference: str | os.PathLike[str]) -> str:
    """Return the reference as the command line has it; a path object always means a folder."""
    if isinstance(reference, str):
        return reference
    path = os.fspath(reference)
    return path if path.startswith(("/", "./", "../", "~")) else f"./{path}"


def save_base(model: Any, folder: Path, tokenizer: Any = None) -> Source:
    """Save a model in memory, without any LoRA layers that peft put into it, and its tokenizer.

    Raises:
        InvalidJobError: it is no model of transformers or peft.
        BaseModelError: it has no tokenizer, an adapter is merged into its weights, or peft wrapped whole
            layers of it.
    """
    from peft import PeftModel
    from peft.utils.other import AuxiliaryTrainingWrapper
    from transformers import AutoTokenizer, PreTrainedModel

    if isinstance(model, PeftModel):
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise InvalidJobError(
            f"A base model is a Hub's name, a folder or a PreTrainedModel, not {type(model).__name__}."
        )
    if any(getattr(layer, "merged", False) for layer in model.modules()):
        raise BaseModelError("An adapter is merged into the base model. Call unmerge_adapter() first.")
    wrapped = [path for path, layer in model.named_modules() if isinstance(layer, AuxiliaryTrainingWrapper)]
    if wrapped:
        raise BaseModelError(
            f"peft trains {wrapped[0]} of the base model as a whole (modules_to_save or trainable tokens), "
            "so the base cannot be taken out of it. Give the base model's name, its folder or a model "
            "without adapters."
        )
    name = str(model.name_or_path or "")
    if tokenizer is None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # transformers raises many kinds of error where there is none
            raise BaseModelError(
                "The base model in memory has no tokenizer with it. Give one: tokenizer=…"
            ) from error
    model.save_pretrained(folder, state_dict=own_weights(model))
    tokenizer.save_pretrained(folder)
    return Source(name or UNNAMED_BASE, folder)


def own_weights(model: Any) -> dict[str, Any]:
    """Return the state dict of a transformers model as it was before peft put LoRA layers into it."""
    return {
        key.replace(".base_layer.", "."): tensor
        for key, tensor in model.state_dict().items()
        if ".lora_" not in key
    }


def save_module(model: Any, folder: Path) -> Source:
    """Save the active adapter of a PeftModel; it is called after the adapter, or after the folder.

    Raises:
        InvalidJobError: it is no PeftModel with one active adapter.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise InvalidJobError(
            f"A module is a Hub's name, a folder or a PeftModel, not {type(model).__name__}."
        )
    adapters = model.active_adapters
    if len(adapters) != 1:
        raise InvalidJobError(
            f"A PeftModel has {len(adapters)} active adapters; a module is one. Call set_adapter(…)."
        )
    (adapter,) = adapters
    model.save_pretrained(str(folder), selected_adapters=[adapter], save_embedding_layers=False)
    own = folder if adapter == "default" else folder / adapter  # where peft puts it
    return Source(own.name, own)
