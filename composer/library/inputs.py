"""What a caller of the library gives: examples, and models by name, by folder or in memory.

A model in memory is saved into a folder of the caller, because the core reads files. The model itself
does not change.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from composer.core.modules.sources import Source, base_source, module_source
from composer.core.spec.errors import BaseModelError, ExamplesError, InvalidJobError, NoExamplesError
from composer.core.spec.examples import Example, problems_with
from composer.library.job_folder import OnEvent, find_source

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BaseReference: TypeAlias = "str | os.PathLike[str] | PreTrainedModel | PeftModel | Source"
ModuleReference: TypeAlias = "str | os.PathLike[str] | PeftModel | Source"
GivenExample: TypeAlias = "Sequence[str] | Mapping[str, str] | Example"


# --- examples -----------------------------------------------------------------


def read_given(given: Iterable[GivenExample], limit: int, called: str = "Example") -> tuple[Example, ...]:
    """Return pairs or {"input": …, "output": …} as examples.

    Args:
        given: at least one.
        limit: the most examples that are allowed.
        called: the word before the number of an example in a message.

    Raises:
        ExamplesError: there is none, or too many, or one of them cannot be used.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ExamplesError("The examples must be a list of pairs (input, output).")
    examples = tuple(read_one(example, f"{called} {number}") for number, example in enumerate(given, start=1))
    if not examples:
        raise NoExamplesError("There are no examples. Give at least one input with its output.")
    if len(examples) > limit:
        raise ExamplesError(f"There are {len(examples)} examples; at most {limit} can be used.")
    return examples


def read_one(given: GivenExample, label: str) -> Example:
    """Return one example; `label` names it in a message.

    Raises:
        ExamplesError: it is neither a pair nor a dict, or its input or output cannot be used.
    """
    if isinstance(given, Mapping):
        pair: tuple[Any, ...] = (given.get("input"), given.get("output"))
    elif isinstance(given, Example):
        pair = (given.input, given.output)
    elif isinstance(given, str | bytes) or not isinstance(given, Sequence) or len(given) != 2:
        raise ExamplesError(f'{label} is neither a pair (input, output) nor {{"input": …, "output": …}}.')
    else:
        pair = tuple(given)
    if problems := problems_with(*pair, label=label):
        raise problems[0].error
    return Example(*pair)


def write_examples(path: Path, examples: Iterable[Example]) -> Path:
    """Write one JSON object a line; return the path."""
    lines = [json.dumps({"input": example.input, "output": example.output}) + "\n" for example in examples]
    path.write_text("".join(lines), encoding="utf-8")
    return path


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
        BaseModelError: it has no tokenizer, or an adapter is merged into its weights.
    """
    from peft import PeftModel
    from transformers import AutoTokenizer, PreTrainedModel

    if isinstance(model, PeftModel):
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise InvalidJobError(
            f"A base model is a Hub's name, a folder or a PreTrainedModel, not {type(model).__name__}."
        )
    if any(getattr(layer, "merged", False) for layer in model.modules()):
        raise BaseModelError("An adapter is merged into the base model. Call unmerge_adapter() first.")
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
    return Source(name or "base", folder)


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
