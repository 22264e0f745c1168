"""The layers and tensors of a base model as it loads, read from its files' headers. No code is run.

A file may name its tensors otherwise than the model does: without the base's prefix, as an earlier version of
transformers called them, with layers that the model leaves out, or without a head that shares the embedding.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modules_registry.core.adapter_config import endings
from modules_registry.core.adapter_file import (
    BASE_ITEM_BYTES,
    TensorEntry,
    WeightsSource,
    open_weights,
    read_header,
)
from modules_registry.core.errors import BaseModelRefusal, GateRefusal
from modules_registry.core.model_types import HEAD, MODEL_TYPES, ModelType
from modules_registry.core.strict_json import JsonRefusal, parse_object

BASE_CONFIG = "config.json"
CONFIG_BYTES_MAX = 256 * 1024
CONFIG_DEPTH_MAX = 16
# Quantizations that store a matrix in another shape; fp8 and 8-bit weights keep theirs.
PACKS_WEIGHTS = frozenset({"bitsandbytes", "gptq", "awq", "hqq", "aqlm", "quip", "eetq"})
WEIGHT_SUFFIX = ".weight"

# Two-dimensional weights that are tables to look up, not linear layers.
EMBEDDINGS = frozenset({"shared", "wte", "wpe", "relative_attention_bias"})
# These models keep the weights of these layers as (d_in, d_out): transformers' Conv1D.
CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_LAYERS = frozenset({"c_attn", "q_attn", "c_proj", "c_fc"})
# In the model that loads, numbered experts of a mixture lie in one tensor, so none of them is a linear layer.
EXPERT = re.compile(r"(?:.*\.)?experts\.\d+\.")
# Beside experts lies the router that chooses among them; only in these models it is a linear layer.
ROUTERS = frozenset({"gate", "router"})
LINEAR_ROUTERS = frozenset({"llama4", "llama4_text", "phimoe"})
# Layers for multi-token prediction lie under this name, or behind the last layer of the text model.
NOT_LOADED = "mtp"
TEXT_LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(?P<number>\d{1,6})\.")


def base_files(folder: Path) -> tuple[Path, list[Path]]:
    """config.json and the weights of a model's folder, as transformers writes it.

    Raises:
        BaseModelRefusal: it is none, or its weights are in another format.
    """
    config, weights = folder / BASE_CONFIG, sorted(folder.glob("*.safetensors"))
    if not weights or not config.is_file():
        message = f"{folder} is not a model's folder: it needs {BASE_CONFIG} and model.safetensors."
        raise BaseModelRefusal("base_incomplete", message, "")
    return config, weights


def base_shapes_of(
    config_source: WeightsSource, weights_sources: Iterable[WeightsSource]
) -> dict[str, tuple[int, int]]:
    """Map each linear layer of the model as it loads, by its path in an adapter, to (d_out, d_in).

    Args:
        config_source: the base's config.json.
        weights_sources: its safetensors files, one or several.
    """
    config = read_base_config(config_source)
    tensors = [tensor for source in weights_sources for tensor in _tensors(source)]
    return linear_layers(config, tensors)


def linear_layers(config: Mapping[str, Any], tensors: Iterable[TensorEntry]) -> dict[str, tuple[int, int]]:
    """The same, once the files are read."""
    kind = MODEL_TYPES.get(config["model_type"])
    loaded, shapes = loaded_tensors(config, tensors), {}
    routers = _routers(loaded) if config["model_type"] not in LINEAR_ROUTERS else frozenset()
    for name, tensor in loaded.items():
        path = name.removesuffix(WEIGHT_SUFFIX)
        is_matrix = path != name and len(tensor.shape) == 2
        is_table = path in routers or (kind is not None and path == kind.embedding)
        if is_matrix and _is_linear(path) and not is_table:
            shapes[path] = _linear_shape(path, tensor.shape, config["model_type"])
    return shapes


def loaded_tensors(config: Mapping[str, Any], tensors: Iterable[TensorEntry]) -> dict[str, TensorEntry]:
    """The tensors by their names in the model as it loads; a tied head is its embedding."""
    kind = MODEL_TYPES.get(config["model_type"])
    named = {rename(tensor.name, kind): tensor for tensor in tensors}
    prefix = _missing_prefix(named, kind)
    count = _count_layers(config)
    loaded = {}
    for name, tensor in named.items():
        path = name if is_of_head(name) else prefix + name
        if _is_loaded(path, kind, count):
            loaded[path] = tensor
    if kind is not None and config.get("tie_word_embeddings", kind.is_tied):
        # An encoder and a decoder may share one embedding, which their file then calls so.
        names = (f"{path}{WEIGHT_SUFFIX}" for path in (kind.embedding, f"{kind.prefix}.shared"))
        found = [loaded[name] for name in names if name in loaded]
        if found:
            loaded.setdefault(f"{HEAD}{WEIGHT_SUFFIX}", found[0])
    return loaded


def _routers(names: Iterable[str]) -> frozenset[str]:
    """The paths of what chooses among experts."""
    mixtures = {name.partition(".experts.")[0] for name in names if ".experts." in name}
    return frozenset(f"{mixture}.{router}" for mixture in mixtures for router in ROUTERS)


def rename(name: str, kind: ModelType | None) -> str:
    """The name that transformers gives a tensor of the file: the rules of its model type, in their order."""
    for pattern, replacement in kind.renames if kind is not None else ():
        name = re.sub(pattern, replacement, name, count=1)
    return name


def is_of_head(name: str) -> bool:
    return name.startswith(f"{HEAD}.")


def _missing_prefix(names: Iterable[str], kind: ModelType | None) -> str:
    """What stands in front of the base's layers in the model, where the file lacks it; else nothing."""
    if kind is None or not kind.prefix:
        return ""
    prefix = f"{kind.prefix}."
    return "" if any(name.startswith(prefix) for name in names) else prefix


def _count_layers(config: Mapping[str, Any]) -> int | None:
    """How many layers the text model has, where config.json says it."""
    text = config.get("text_config")
    said = text if isinstance(text, dict) else config
    count = said.get("num_hidden_layers", said.get("num_layers"))
    return count if type(count) is int else None


def _is_loaded(name: str, kind: ModelType | None, count: int | None) -> bool:
    if NOT_LOADED in name.split("."):
        return False
    layer = TEXT_LAYER.match(name)
    if layer is not None and count is not None and int(layer["number"]) >= count:
        return False
    return kind is None or is_of_head(name) or name.startswith(f"{kind.prefix}." if kind.prefix else "")


def read_base_config(source: WeightsSource) -> dict[str, Any]:
    with open_weights(source) as file:
        file.seek(0)
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise BaseModelRefusal("config_too_large", "It is larger than 256 KB. Check the file.", "config.json")
    try:
        config = parse_object(data, depth_max=CONFIG_DEPTH_MAX)
    except JsonRefusal as refusal:
        raise BaseModelRefusal(f"config_{refusal.problem}", refusal.message, "config.json") from refusal
    if not isinstance(config.get("model_type"), str):
        raise BaseModelRefusal("model_type_missing", "It has no model_type. Check the file.", "config.json")
    _require_shapes_kept(config)
    return config


def _require_shapes_kept(config: Mapping[str, Any]) -> None:
    quantization = config.get("quantization_config")
    said = quantization if isinstance(quantization, dict) else {}
    method = said.get("quant_method")
    if isinstance(method, str) and method in PACKS_WEIGHTS and not said.get("load_in_8bit"):
        message = (
            f"Its weights are quantized ({method}), so they no longer have the shapes of its layers. Name "
            "the base model that they were made from: an adapter for one fits the other."
        )
        raise BaseModelRefusal("base_quantized", message, "config.json")


def _tensors(source: WeightsSource) -> tuple[TensorEntry, ...]:
    try:
        with open_weights(source) as file:
            return read_header(file, BASE_ITEM_BYTES).tensors
    except GateRefusal as refusal:
        raise BaseModelRefusal(refusal.code, refusal.message, "model.safetensors") from refusal


def _is_linear(path: str) -> bool:
    parts = path.split(".")
    is_embedding = parts[-1] in EMBEDDINGS or "embed" in parts[-1]
    return not (is_embedding or EXPERT.match(path))


def _linear_shape(path: str, shape: tuple[int, ...], model_type: str) -> tuple[int, int]:
    rows, columns = shape
    if model_type in CONV1D_MODELS and endings(path)[-1] in CONV1D_LAYERS:
        return columns, rows
    return rows, columns
