"""The linear layers of a base model, read from its files' headers. No weights are read, no code is run."""

from collections.abc import Iterable
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

CONFIG_BYTES_MAX = 256 * 1024
CONFIG_DEPTH_MAX = 16
WEIGHT_SUFFIX = ".weight"

# Two-dimensional weights that are tables to look up, not linear layers.
EMBEDDINGS = frozenset({"shared", "wte", "wpe", "relative_attention_bias"})
# These models keep the weights of these layers as (d_in, d_out): transformers' Conv1D.
CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_LAYERS = frozenset({"c_attn", "q_attn", "c_proj", "c_fc"})
# Names of the head in files of earlier versions of transformers.
FORMER_HEADS = frozenset({"embed_out"})
# In the model that loads, all experts of a mixture lie in one tensor, so none of them is a linear layer.
EXPERTS = "experts"


def base_shapes_of(
    config_source: WeightsSource, weights_sources: Iterable[WeightsSource]
) -> dict[str, tuple[int, int]]:
    """Map each linear layer of the model as it loads, by its path in an adapter, to (d_out, d_in).

    A file may lack the prefix of the base and a head that shares the embedding's weights.

    Args:
        config_source: the base's config.json.
        weights_sources: its safetensors files, one or several.
    """
    config = _read_config(config_source)
    model_type = config["model_type"]
    kind = MODEL_TYPES.get(model_type)
    tensors = [tensor for source in weights_sources for tensor in _tensors(source)]
    prefix = _missing_prefix(tensors, kind)
    shapes: dict[str, tuple[int, int]] = {}
    for tensor in tensors:
        if _is_linear(tensor):
            path = tensor.name.removesuffix(WEIGHT_SUFFIX)
            named = HEAD if path in FORMER_HEADS else path if path == HEAD else prefix + path
            shapes[named] = _linear_shape(path, tensor.shape, model_type)
    if kind is not None and HEAD not in shapes and config.get("tie_word_embeddings", kind.is_tied):
        # An encoder and a decoder may share one embedding, which their file then calls so.
        names = {f"{path}{WEIGHT_SUFFIX}" for path in (kind.embedding, f"{kind.prefix}.shared")}
        found = [tensor.shape for tensor in tensors if prefix + tensor.name in names]
        if found and len(found[0]) == 2:
            rows, columns = found[0]
            shapes[HEAD] = (rows, columns)
    return shapes


def _missing_prefix(tensors: Iterable[TensorEntry], kind: ModelType | None) -> str:
    """What stands in front of the base's layers in the model, where the file lacks it; else nothing."""
    if kind is None or not kind.prefix:
        return ""
    prefix = f"{kind.prefix}."
    return "" if any(tensor.name.startswith(prefix) for tensor in tensors) else prefix


def _read_config(source: WeightsSource) -> dict[str, Any]:
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
    return config


def _tensors(source: WeightsSource) -> tuple[TensorEntry, ...]:
    try:
        with open_weights(source) as file:
            return read_header(file, BASE_ITEM_BYTES).tensors
    except GateRefusal as refusal:
        raise BaseModelRefusal(refusal.code, refusal.message, "model.safetensors") from refusal


def _is_linear(tensor: TensorEntry) -> bool:
    if len(tensor.shape) != 2 or not tensor.name.endswith(WEIGHT_SUFFIX):
        return False
    parts = tensor.name.removesuffix(WEIGHT_SUFFIX).split(".")
    is_embedding = parts[-1] in EMBEDDINGS or "embed" in parts[-1]
    return parts[-1] in FORMER_HEADS or not (is_embedding or EXPERTS in parts)


def _linear_shape(path: str, shape: tuple[int, ...], model_type: str) -> tuple[int, int]:
    rows, columns = shape
    if model_type in CONV1D_MODELS and endings(path)[-1] in CONV1D_LAYERS:
        return columns, rows
    return rows, columns
