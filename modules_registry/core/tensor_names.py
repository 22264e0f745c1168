"""The names of an adapter's tensors: repaired where only one reading is possible, explained where none is.

peft writes `base_model.model.<layer>.lora_A.weight`. Wrappers that were around the model while it was saved
leave their own parts in the names; they say nothing of the layer, so they are taken out.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from modules_registry.core.adapter_config import NAME_ATTENTION, is_module_path
from modules_registry.core.adapter_file import TensorEntry
from modules_registry.core.errors import Findings, Repair, WeightsRefusal
from modules_registry.core.strict_json import quote_value
from modules_registry.core.weight_formats import (
    is_diffusers,
    is_kohya,
    is_megatron,
    is_mlx,
    is_of_other_program,
    is_of_whole_model,
)

PREFIX = "base_model.model."
PREFIX_BEGINNING, MODEL = "base_model.", "model."  # its two parts
RENAME = (
    "python -c \"from safetensors.torch import load,save_file; f='adapter_model.safetensors'; "
    f"save_file({{'{PREFIX}'+k: v for k,v in load(open(f,'rb').read()).items()}},f)\""
)
# Whether these paths are layers of the base, as far as that is known.
LayersTest = Callable[[Collection[str]], bool]
FACTOR = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<factor>[AB])\.weight")
MAGNITUDE = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_magnitude_vector(?:\.weight)?")
# "….lora_A.default.weight": what a model in memory calls them; peft leaves the adapter's name out on disk.
NAMED_ADAPTER = re.compile(
    r"(?P<before>.+\.(?:lora_[AB]|lora_magnitude_vector))\.(?P<adapter>(?!lora_)[A-Za-z0-9_-]{1,64})(?P<after>\.weight)"
)
UNNAMED_ADAPTER = re.compile(r".+\.lora_[AB]\.weight")
HOLDER = re.compile(
    r"(?:[A-Za-z_]\w{0,63}\.){1,4}", re.ASCII
)  # "pretrained_model.": what may stand before PREFIX
# Parts that wrappers put between the parts of a path: torch.compile, FSDP, activation checkpoints, DeepSpeed
# and Lightning, Opacus. No layer of a model is called so.
WRAPPER_PARTS = (
    *("_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"),
    *("_forward_module", "_module"),
)
MODULE = "module"  # the one child of DistributedDataParallel, of DeepSpeed's engine, of an averaged model
FACTOR_PARTS = frozenset({"lora_A", "lora_B", "lora_magnitude_vector"})
NAME_PARTS_MAX = 40  # of a tensor's name; those of models have about a dozen
# Parts of a path that peft puts there itself: a tensor below them is not a layer's LoRA.
RESERVED_PARTS = frozenset({"base_layer", "lora_A", "lora_B", "modules_to_save", "original_module"})
EXPERTS = "experts"  # in which the experts of a mixture lie as one tensor, no layer of which is linear
FACTOR_DIMENSIONS = 2
NAMES_SHOWN_MAX = 4


@dataclass
class RepairedNames:
    """Old name -> new name of the tensors whose names were repaired, and what was done."""

    names: dict[str, str] = field(default_factory=dict)
    repairs: list[Repair] = field(default_factory=list)

    def of(self, tensor: TensorEntry) -> str:
        return self.names.get(tensor.name, tensor.name)


def repair_names(tensors: Sequence[TensorEntry], are_layers: LayersTest | None = None) -> RepairedNames:
    """Take out of the names what wrappers and the model in memory put there, and put peft's prefix back.

    Args:
        are_layers: whether all these paths, without peft's prefix, are layers that the adapter can be for.
            None: neither base nor config are at hand, so the whole prefix is what is missing.

    Raises:
        WeightsRefusal: the file holds several adapters, or two tensors would get one name.
    """
    repaired = RepairedNames()
    names = [tensor.name for tensor in tensors]
    steps = (
        _without_wrappers,
        _without_module,
        _without_holder,
        _without_second_prefix,
        _without_adapter_name,
        partial(_with_prefix, are_layers=are_layers),
    )
    for rename in steps:
        changed, repair = rename(names)
        if changed != names:
            names = changed
            repaired.repairs.append(repair)
    if len(set(names)) < len(names):
        raise WeightsRefusal("tensor_twice", "Two of its tensors would get one name. Save the adapter again.")
    repaired.names = {
        tensor.name: name for tensor, name in zip(tensors, names, strict=True) if tensor.name != name
    }
    return repaired


def _without_wrappers(names: list[str]) -> tuple[list[str], Repair]:
    kept = [".".join(part for part in name.split(".") if part not in WRAPPER_PARTS) for name in names]
    found = [part for part in WRAPPER_PARTS if any(part in name.split(".") for name in names)]
    what = " and ".join(f"“{part}.”" for part in found)
    count = _count_changed(names, kept)
    return kept, Repair("wrapper_names", f"Left {what}, which a wrapper of the model wrote, out of {count}.")


def _without_module(names: list[str]) -> tuple[list[str], Repair]:
    """What parallel training puts around the adapter, or around a part of the model in it, at any depth.

    Such a wrapper has one child. A part “module” beside which another one stands is the model's own, and so
    is one that is a layer.
    """
    outside = [re.sub(r"\A(?:module\.)+(?=base_model\.)", "", name) for name in names]
    parts = [name.split(".", NAME_PARTS_MAX) for name in outside]
    children: dict[tuple[str, ...], set[str]] = {}
    for path in parts:
        for depth, part in enumerate(path):
            children.setdefault(tuple(path[:depth]), set()).add(part)
    wrappers = {parent for parent, found in children.items() if found == {MODULE}}
    kept = [
        ".".join(
            part
            for depth, part in enumerate(path)
            if part != MODULE
            or tuple(path[:depth]) not in wrappers
            or FACTOR_PARTS.intersection(path[depth + 1 : depth + 2])
        )
        for path in parts
    ]
    count = _count_changed(names, kept)
    return kept, Repair("module_names", f"Left “module.”, which parallel training wrote, out of {count}.")


def _without_holder(names: list[str]) -> tuple[list[str], Repair]:
    """What stands before peft's prefix: the model that held the adapter, as Lightning's or TRL's do."""
    holders = {name.partition(PREFIX)[0] for name in names if PREFIX in name}
    require_one_adapter(holders, "the model that holds it")
    holder = holders.pop() if holders else ""
    if not HOLDER.fullmatch(holder):
        return names, Repair("holder_names", "")
    kept = [name.removeprefix(holder) if PREFIX in name else name for name in names]
    count = _count_changed(names, kept)
    sentence = f"Left “{holder}”, which the model that held the adapter wrote, out of {count}."
    return kept, Repair("holder_names", sentence)


def _without_second_prefix(names: list[str]) -> tuple[list[str], Repair]:
    kept = [re.sub(r"\A(?:base_model\.model\.)+(?=base_model\.model\.)", "", name) for name in names]
    count = _count_changed(names, kept)
    return kept, Repair("doubled_prefix", f"Wrote “{PREFIX}” once instead of twice in {count}.")


def _without_adapter_name(names: list[str]) -> tuple[list[str], Repair]:
    """Leave the adapter's name out."""
    matches = [NAMED_ADAPTER.fullmatch(name) for name in names]
    unnamed = {"" for name in names if UNNAMED_ADAPTER.fullmatch(name)}
    adapters = {match["adapter"] for match in matches if match}
    require_one_adapter(adapters - {"default"} | unnamed if unnamed else adapters, "its name in memory")
    kept = [
        match["before"] + match["after"] if match else name
        for name, match in zip(names, matches, strict=True)
    ]
    count = _count_changed(names, kept)
    return kept, Repair("adapter_name", f"Left “.{''.join(adapters)}.”, its name in memory, out of {count}.")


def _with_prefix(names: list[str], are_layers: LayersTest | None) -> tuple[list[str], Repair]:
    """What state_dict of the model in a PeftModel lacks: all of the prefix, or only its first part.

    It is written where one of the two makes layers of all paths, and the other does not.
    """
    if not names or any(name.startswith(PREFIX_BEGINNING) or is_of_other_program(name) for name in names):
        return names, Repair("prefix", "")
    has_two = are_layers is not None and all(name.startswith(MODEL) for name in names)
    readings = []
    for lacks in (PREFIX, PREFIX_BEGINNING) if has_two else (PREFIX,):
        kept = [lacks + name for name in names]
        if all(is_lora(name) for name in kept):
            paths = {layer_and_factor(name)[0] for name in kept}
            readings += [(lacks, kept)] if are_layers is None or are_layers(paths) else []
    if len(readings) != 1:
        return names, Repair("prefix", "")
    ((lacks, kept),) = readings
    count = _count_changed(names, kept)
    return kept, Repair("prefix", f"Put “{lacks}”, which was missing, in front of {count}.")


def require_one_adapter(signs: Collection[str], what: str) -> None:
    """Refuse a file of several adapters.

    Args:
        signs: what tells them apart; empty for one that peft wrote as its only one.
        what: the signs are.

    Raises:
        WeightsRefusal: there are several.
    """
    if len(signs) <= 1:
        return
    shown = ", ".join(quote_value(sign.rstrip(".")) for sign in sorted(signs)[:NAMES_SHOWN_MAX])
    raise WeightsRefusal(
        "several_adapters",
        f"It holds {len(signs)} adapters, each with {what}: {shown}. A module is one. Save each "
        'by itself: save_pretrained("folder", selected_adapters=["name"]) of the PeftModel writes one, '
        "below the folder if its name is not default.",
    )


def _count_changed(names: Sequence[str], kept: Sequence[str]) -> str:
    count = sum(name != new for name, new in zip(names, kept, strict=True))
    return "the name of 1 tensor" if count == 1 else f"the names of {count} tensors"


# --- what is no LoRA of a linear layer, and why -------------------------------


@dataclass(frozen=True)
class Cause:
    """Why a tensor is not part of a LoRA that can be published, as its name or its shape shows."""

    code: str
    fits: Callable[[str, tuple[int, ...]], bool]
    sentence: str


def _has(*signs: str) -> Callable[[str, tuple[int, ...]], bool]:
    """Signs with a dot in front are whole parts of a name, the first one too."""
    return lambda name, shape: any(sign in f".{name}" for sign in signs)


def _is_embedding(name: str, shape: tuple[int, ...]) -> bool:
    parts = name.removesuffix(".weight").split(".")
    return name.endswith(".weight") and (
        parts[-1] in ("shared", "wte", "wpe", "lm_head", "embed_out") or "embed" in parts[-1]
    )


# The first that fits is said. Each names what the person can do.
CAUSES = (
    Cause(
        "not_gathered",
        lambda name, shape: 0 in shape,
        "are empty: DeepSpeed ZeRO-3 saved them without gathering them. Set "
        "stage3_gather_16bit_weights_on_model_save to true and save again, or run zero_to_fp32.py of "
        "the checkpoint.",
    ),
    Cause(
        "kohya_format",
        lambda name, shape: is_kohya(name),
        "are in kohya's format, for image models. This site shares adapters of language models, as "
        "peft saves them.",
    ),
    Cause(
        "diffusers_format",
        lambda name, shape: is_diffusers(name),
        "are in the format of diffusers, for image models. This site shares adapters of language models.",
    ),
    Cause(
        "mlx_format",
        lambda name, shape: is_mlx(name),
        "are in MLX's format. Convert it to peft's: transpose each lora_a to lora_A.weight and each "
        "lora_b to "
        "lora_B.weight, put base_model.model. in front, and write adapter_config.json with r and lora_alpha.",
    ),
    Cause(
        "trained_biases",
        lambda name, shape: name.endswith(".bias") and ".base_layer." not in name,
        "are trained biases. Loading them changes the base model, so they are not accepted. Train "
        'with bias="none".',
    ),
    Cause(
        "classifier_head",
        _has(".classifier.", ".score.", ".qa_outputs.", "classification_head", ".v_head.", ".value_head."),
        "belong to a head for classes or rewards. Only adapters of text-generating models can be "
        "used here: train with "
        "task_type CAUSAL_LM or SEQ_2_SEQ_LM.",
    ),
    Cause(
        "modules_saved",
        _has(".modules_to_save.", ".original_module."),
        "are whole layers that modules_to_save kept. Loading them changes the base model, so they "
        "are not accepted. "
        "Train without modules_to_save.",
    ),
    Cause(
        "trained_tokens",
        _has(".token_adapter.", "trainable_tokens_"),
        "are trained tokens. Loading them changes the base model's embeddings, so they are not "
        "accepted. Train without "
        "trainable_token_indices.",
    ),
    Cause(
        "embedding_lora",
        _has(".lora_embedding_"),
        "are a LoRA on an embedding, which is not supported yet. Train without the embedding in "
        "target_modules.",
    ),
    Cause(
        "moe_experts",
        lambda name, shape: (
            ".experts." in name
            and (".base_layer." in name or ".experts.lora_" in name or len(shape) > FACTOR_DIMENSIONS)
        ),
        "are a LoRA on the fused experts of a mixture-of-experts model, which is not supported yet. "
        f'peft makes it of "all-linear", too. {NAME_ATTENTION}',
    ),
    Cause(
        "base_weights_inside",
        _has(".base_layer."),
        "are weights of the base model itself, which peft saves beside a LoRA on its head or embedding. They "
        "are left out only where the base model is at hand and they equal its own. "
        "Save again with save_embedding_layers=False.",
    ),
    Cause(
        "embeddings_saved",
        lambda name, shape: name.startswith(PREFIX) and _is_embedding(name, shape),
        "are whole embeddings, which peft saves when the vocabulary changed. They are left out only where "
        "the base model is at hand and they equal its own. Save again with save_embedding_layers=False, "
        "or train without new tokens.",
    ),
    Cause(
        "megatron_format",
        lambda name, shape: is_megatron(name),
        "are named as Megatron names its layers, which are others than those of the base model on the Hub. "
        "Export the adapter to peft's format with the trainer, in ms-swift by swift export --to_hf true.",
    ),
    Cause(
        "prefix_missing",
        lambda name, shape: not name.startswith("base_model.") and is_lora(PREFIX + name),
        f"lack peft's prefix. Put it there: {RENAME} - or save it again.",
    ),
    Cause(
        "full_model",
        lambda name, shape: is_of_whole_model(name),
        "are those of a whole model, not of an adapter. Upload the LoRA alone, as save_pretrained of "
        "the PeftModel writes it.",
    ),
    Cause(
        "other_variant",
        _has(
            ".hada_",
            ".lokr_",
            ".ia3_l",
            ".oft_",
            ".boft_",
            ".vera_lambda_",
            ".prompt_embeddings",
            ".lora_E",
            ".ranknum",
        ),
        "belong to another method than LoRA. Train a plain LoRA instead.",
    ),
)
# What the base's own tensors are taken for one by one, and what they are together.
CODES_OF_A_STATE = ("base_weights_inside", "embeddings_saved", "trained_biases", "tensor_not_lora")
WHOLE_STATE = (
    "are the base model's own: this is the state of the whole model, as torch.save of model.state_dict() "
    "keeps it. Save the adapter alone, with save_pretrained of the PeftModel."
)
UNKNOWN = "are not LoRA weights. Save the LoRA alone, with peft's save_pretrained."


def require_lora_only(tensors: Sequence[TensorEntry], names: RepairedNames) -> None:
    """Say of all tensors that are no LoRA of a linear layer what they are, each kind once.

    Raises:
        WeightsRefusal: there are some, or no tensors at all.
    """
    if not tensors:
        raise WeightsRefusal("no_tensors", "It holds no LoRA tensors. Save the adapter again after training.")
    kinds: dict[str, tuple[str, list[str]]] = {}
    of_state = CODES_OF_A_STATE if is_whole_state({names.of(tensor) for tensor in tensors}) else ()
    for tensor in tensors:
        name = names.of(tensor)
        if is_lora(name) and not is_not_gathered(tensor.shape):
            continue
        cause = next((cause for cause in CAUSES if cause.fits(name, tensor.shape)), None)
        code, sentence = (cause.code, cause.sentence) if cause else ("tensor_not_lora", UNKNOWN)
        if code in of_state:
            code, sentence = "whole_state", WHOLE_STATE
        kinds.setdefault(code, (sentence, []))[1].append(name)
    findings = Findings()
    for code, (sentence, found) in kinds.items():
        findings.add(WeightsRefusal(code, f"{_some(found)} {sentence}"))
    findings.raise_all()


def is_whole_state(names: Collection[str]) -> bool:
    """Whether base weights of an adapted layer are there; peft copies those of head and embedding alone."""
    layers = (match["path"] for match in map(FACTOR.fullmatch, names) if match)
    copies = (
        f"{PREFIX}{path}.base_layer.weight" for path in layers if not _is_embedding(f"{path}.weight", ())
    )
    return any(copy in names for copy in copies)


def is_lora(name: str) -> bool:
    """Whether this is a factor of a layer, or the magnitudes of DoRA."""
    match = FACTOR.fullmatch(name) or MAGNITUDE.fullmatch(name)
    if match is None or not is_module_path(match["path"]):
        return False
    parts = match["path"].split(".")
    return not RESERVED_PARTS & set(parts) and parts[-1] != EXPERTS


def base_parameter(name: str) -> str | None:
    """The base's parameter that peft copies to a tensor of this name, beside a LoRA; None if it never does.

    "base_model.model.lm_head.base_layer.weight" -> "lm_head.weight"
    """
    if name.startswith(PREFIX) and (".base_layer." in name or _is_embedding(name, ())):
        return name.removeprefix(PREFIX).replace(".base_layer.", ".")
    return None


def is_not_gathered(shape: tuple[int, ...]) -> bool:
    return shape == (0,)


def _some(names: Sequence[str]) -> str:
    return f"Tensors such as {quote_value(names[0])} ({len(names)} in all)"


def layer_and_factor(name: str) -> tuple[str, str]:
    """ "base_model.model.x.q.lora_A.weight" -> ("x.q", "A"); DoRA's magnitudes: "magnitude"."""
    if match := FACTOR.fullmatch(name):
        return match["path"], match["factor"]
    match = MAGNITUDE.fullmatch(name)
    assert match is not None, "only LoRA is left"
    return match["path"], "magnitude"


def shapes_by_factor(
    tensors: Iterable[TensorEntry], names: Mapping[str, str]
) -> Iterable[tuple[str, str, tuple[int, ...]]]:
    """(layer's path, "A" or "B", shape) of every LoRA factor that is a matrix."""
    for tensor in tensors:
        match = FACTOR.fullmatch(names.get(tensor.name, tensor.name))
        if match and len(tensor.shape) == FACTOR_DIMENSIONS:
            yield match["path"], match["factor"], tensor.shape
