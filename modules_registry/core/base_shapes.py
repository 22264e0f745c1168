"""The linear layers of a base model, read from its files' headers. No weights are read, no code is run."""

from collections.abc import Iterable

from modules_registry.core.adapter_config import endings
from modules_registry.core.adapter_file import (
    BASE_ITEM_BYTES,
    TensorEntry,
    WeightsSource,
    open_weights,
    read_header,
)
from modules_registry.core.errors import BaseModelRefusal, GateRefusal
from modules_registry.core.strict_json import JsonRefusal, parse_object

CONFIG_BYTES_MAX = 256 * 1024
CONFIG_DEPTH_MAX = 16
WEIGHT_SUFFIX = ".weight"

# Two-dimensional weights that are tables to look up, not linear layers.
EMBEDDINGS = frozenset({"shared", "wte", "wpe", "relative_attention_bias"})
# These models keep the weights of these layers as (d_in, d_out): transformers' Conv1D.
CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_LAYERS = frozenset({"c_attn", "q_attn", "c_proj", "c_fc"})
# Files saved without the head lack the prefix that the layers have in the model that peft wraps.
HEADLESS_PREFIX = {"gpt2": "transformer"}


def base_shapes_of(
    config_source: WeightsSource, weights_sources: Iterable[WeightsSource]
) -> dict[str, tuple[int, int]]:
    """Map each linear layer's path, as in an adapter, to (d_out, d_in).

    Args:
        config_source: the base's config.json.
        weights_sources: its safetensors files, one or several.
    """
    model_type = _model_type(config_source)
    shapes: dict[str, tuple[int, int]] = {}
    for source in weights_sources:
        for tensor in _tensors(source):
            if _is_linear(tensor):
                path = tensor.name.removesuffix(WEIGHT_SUFFIX)
                shapes[_path_in_model(path, model_type)] = _linear_shape(path, tensor.shape, model_type)
    return shapes


def _model_type(source: WeightsSource) -> str:
    with open_weights(source) as file:
        file.seek(0)
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise BaseModelRefusal("config_too_large", "It is larger than 256 KB. Check the file.", "config.json")
    try:
        model_type = parse_object(data, depth_max=CONFIG_DEPTH_MAX).get("model_type")
    except JsonRefusal as refusal:
        raise BaseModelRefusal(f"config_{refusal.problem}", refusal.message, "config.json") from refusal
    if not isinstance(model_type, str):
        raise BaseModelRefusal("model_type_missing", "It has no model_type. Check the file.", "config.json")
    return model_type


def _tensors(source: WeightsSource) -> tuple[TensorEntry, ...]:
    try:
        with open_weights(source) as file:
            return read_header(file, BASE_ITEM_BYTES).tensors
    except GateRefusal as refusal:
        raise BaseModelRefusal(refusal.code, refusal.message, "model.safetensors") from refusal


def _is_linear(tensor: TensorEntry) -> bool:
    if len(tensor.shape) != 2 or not tensor.name.endswith(WEIGHT_SUFFIX):
        return False
    layer = tensor.name.removesuffix(WEIGHT_SUFFIX).rpartition(".")[2]
    return layer not in EMBEDDINGS and "embed" not in layer


def _linear_shape(path: str, shape: tuple[int, ...], model_type: str) -> tuple[int, int]:
    rows, columns = shape
    if model_type in CONV1D_MODELS and endings(path)[-1] in CONV1D_LAYERS:
        return columns, rows
    return rows, columns


def _path_in_model(path: str, model_type: str) -> str:
    prefix = HEADLESS_PREFIX.get(model_type)
    if prefix is None or path.startswith(f"{prefix}.") or path == "lm_head":
        return path
    return f"{prefix}.{path}"
