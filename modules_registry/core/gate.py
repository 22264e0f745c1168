"""May this adapter be published? Standard library and numpy only: nothing here loads a model or a pickle.

Everything is an allow-list: the keys and values of the config (adapter_config), the form of the file
(adapter_file), and here the tensors: a pair A (r, d_in), B (d_out, r) for each layer that the config
targets, no other tensor, one float type, every value finite.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from modules_registry.core.adapter_config import AdapterConfig, endings, is_module_path, matches, read_config
from modules_registry.core.adapter_file import (
    STORED_AS,
    Array,
    Header,
    TensorEntry,
    WeightsSource,
    open_weights,
    pieces_of,
    read_header,
)
from modules_registry.core.errors import WeightsRefusal
from modules_registry.core.strict_json import quote_value

BaseShapes = Mapping[str, Sequence[int]]  # path of a linear layer -> d_out, d_in

TENSOR_NAME = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<factor>[AB])\.weight")
# Parts of a path that peft puts there itself: a tensor below them is not a layer's LoRA.
RESERVED_PARTS = frozenset({"base_layer", "lora_A", "lora_B", "modules_to_save", "original_module"})

# The largest magnitude of a half-precision number, as bits without the sign. Weights beyond it are of no
# training run, and their product overflows in float32. NaN and infinity compare above it too.
MAGNITUDE_BITS = {"F32": 0x477FE000, "F16": 0x7BFF, "BF16": 0x477F}
INFINITY_BITS = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}

ADVICE = {
    ".default.weight": "Its name carries the adapter's name: save it again with peft's save_pretrained.",
    "lora_magnitude_vector": "DoRA is not supported yet: train with use_dora=False.",
    "lora_embedding_": "LoRA on embeddings is not supported yet: train without them in target_modules.",
    ".bias": 'Trained biases are not supported yet: train with bias="none".',
}


@dataclass(frozen=True)
class AdapterLayer:
    """A linear layer of the base model that the adapter changes."""

    path: str  # "encoder.block.0.layer.0.SelfAttention.q"
    d_out: int
    d_in: int


@dataclass(frozen=True)
class AdapterFacts:
    """What an accepted adapter is."""

    base: str
    revision: str | None
    task_type: str | None
    rank: int
    alpha: float
    use_rslora: bool
    scaling: float  # what multiplies B @ A
    targets: tuple[str, ...]
    layers: tuple[AdapterLayer, ...]  # in the order of their paths
    parameters: int
    dtype: str  # "F32", "F16" or "BF16"
    weights_sha256: str
    size_bytes: int
    config: dict[str, Any]  # the config written anew, with nothing in it that a reader has to trust
    prompt_template: str  # that the config states; empty if it states none


@dataclass(frozen=True)
class FactorPair:
    """The two factors of one layer."""

    a: TensorEntry  # (r, d_in)
    b: TensorEntry  # (d_out, r)


def check_adapter(
    config_source: WeightsSource,
    weights_source: WeightsSource,
    base_shapes: BaseShapes | None = None,
    *,
    base: str | None = None,
) -> AdapterFacts:
    """Accept an adapter and say what it is, or raise a GateRefusal.

    Args:
        config_source: adapter_config.json, as a path or an open binary file.
        weights_source: adapter_model.safetensors, the same. Read once, in pieces of 1 MiB.
        base_shapes: the linear layers of the base it names, when the library has that base.
        base: the base's name, in place of the one that the config gives.
    """
    config = read_config(config_source, base)
    with open_weights(weights_source) as file:
        header = read_header(file)
        pairs = pair_tensors(header.tensors)
        layers = tuple(measure(path, pair, config.rank) for path, pair in sorted(pairs.items()))
        check_targets(layers, config.targets)
        if base_shapes is not None:
            check_base(layers, config.targets, base_shapes)
        dtype = only_dtype(header.tensors)
        sha256 = hash_finite(file, header, dtype)
    return _facts(config, header, layers, dtype, sha256)


def check_form(weights_source: WeightsSource) -> None:
    """Hold the weights against all that needs no config: for when the config is refused already."""
    with open_weights(weights_source) as file:
        header = read_header(file)
        pair_tensors(header.tensors)
        hash_finite(file, header, only_dtype(header.tensors))


def pair_tensors(tensors: Sequence[TensorEntry]) -> dict[str, FactorPair]:
    """Find the A and the B of each layer; nothing may be left over."""
    factors: dict[str, dict[str, TensorEntry]] = {}
    for tensor in tensors:
        path, factor = split_name(tensor.name)
        factors.setdefault(path, {})[factor] = tensor
    if not factors:
        raise WeightsRefusal("no_tensors", "It holds no tensors. Save the adapter again after training.")
    for path, found in factors.items():
        if len(found) < 2:
            missing = "B" if "A" in found else "A"
            raise WeightsRefusal(
                "factor_missing", f"Layer {path} lacks its lora_{missing}. Save the adapter again."
            )
    return {path: FactorPair(found["A"], found["B"]) for path, found in factors.items()}


def split_name(name: str) -> tuple[str, str]:
    """ "base_model.model.x.q.lora_A.weight" -> ("x.q", "A")."""
    match = TENSOR_NAME.fullmatch(name)
    if match is None or not is_module_path(match["path"]) or RESERVED_PARTS & set(match["path"].split(".")):
        raise WeightsRefusal("tensor_not_lora", f"{quote_value(name)} is not a LoRA weight. {_advice(name)}")
    return match["path"], match["factor"]


def measure(path: str, pair: FactorPair, rank: int) -> AdapterLayer:
    """The layer's dimensions, once both factors have the rank of the config."""
    for tensor in (pair.a, pair.b):
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            raise WeightsRefusal(
                "not_a_matrix",
                f"{tensor.name} has shape {quote_value(tensor.shape)}. "
                "Only LoRA on linear layers is supported.",
            )
    (rank_of_a, d_in), (d_out, rank_of_b) = pair.a.shape, pair.b.shape
    if (rank_of_a, rank_of_b) != (rank, rank):
        raise WeightsRefusal(
            "rank_mismatch",
            f"Layer {path} has A {quote_value(pair.a.shape)} and B {quote_value(pair.b.shape)}; "
            f"with r = {rank}, A is ({rank}, inputs) "
            f"and B is (outputs, {rank}). Correct r in adapter_config.json.",
        )
    return AdapterLayer(path, d_out, d_in)


def check_targets(layers: Sequence[AdapterLayer], targets: Sequence[str]) -> None:
    """Each layer is targeted, and each target has a layer."""
    wanted = frozenset(targets)
    for layer in layers:
        if not matches(layer.path, wanted):
            raise WeightsRefusal(
                "layer_not_targeted",
                f"Layer {layer.path} is not among the target_modules. Add its name there.",
            )
    present = {ending for layer in layers for ending in endings(layer.path)}
    for target in targets:
        if target not in present:
            raise WeightsRefusal(
                "target_without_weights",
                f"target_modules names {target}, but the file has no weights for it.",
            )


def check_base(layers: Sequence[AdapterLayer], targets: Sequence[str], base_shapes: BaseShapes) -> None:
    """The layers are those of the base, in its dimensions, and none that peft would adapt is missing."""
    for layer in layers:
        if layer.path not in base_shapes:
            raise WeightsRefusal(
                "layer_not_in_base",
                f"The base model has no linear layer {layer.path}. Check which base it was trained on.",
            )
        d_out, d_in = base_shapes[layer.path]
        if (layer.d_out, layer.d_in) != (d_out, d_in):
            raise WeightsRefusal(
                "base_shape_mismatch",
                f"Layer {layer.path} is {layer.d_out} x {layer.d_in} here, but {d_out} x {d_in} in "
                "the base model. Check which base it was trained on.",
            )
    present, wanted = {layer.path for layer in layers}, frozenset(targets)
    for path in base_shapes:
        if path not in present and matches(path, wanted):
            raise WeightsRefusal(
                "layer_missing",
                f"target_modules covers {path}, but the file has no weights for it. Save it again.",
            )


def only_dtype(tensors: Sequence[TensorEntry]) -> str:
    dtypes = sorted({tensor.dtype for tensor in tensors})
    if len(dtypes) > 1:
        raise WeightsRefusal(
            "mixed_dtypes", f"It mixes {' and '.join(dtypes)}. Convert all tensors to one of them."
        )
    return dtypes[0]


def hash_finite(file: BinaryIO, header: Header, dtype: str) -> str:
    """Read the file once: its sha256, and every value finite and of a sane size.

    All tensors have one dtype and lie back to back, so their bytes are one long array.
    """
    file.seek(0)
    digest = hashlib.sha256(file.read(header.data_start))
    position = 0
    for piece in pieces_of(file, header.data_start, header.size_bytes):
        digest.update(piece)
        check_values(piece, position, header, dtype)
        position += len(piece)
    return digest.hexdigest()


def check_values(piece: bytes, position: int, header: Header, dtype: str) -> None:
    """Hold a piece of the data, which begins at `position`, against the largest magnitude allowed."""
    bits = magnitude_bits(piece, dtype)
    if bits.max() <= MAGNITUDE_BITS[dtype]:
        return
    first = int(np.argmax(bits > MAGNITUDE_BITS[dtype]))
    tensor = tensor_at(header, position + first * bits.itemsize)
    if bits[first] >= INFINITY_BITS[dtype]:
        raise WeightsRefusal(
            "not_finite", f"{tensor.name} holds NaN or infinity. The training diverged: train again."
        )
    raise WeightsRefusal(
        "value_too_large", f"{tensor.name} holds a value above 65,504. The training diverged: train again."
    )


def magnitude_bits(data: bytes, dtype: str) -> Array:
    """The numbers' bits without the sign: as integers they are ordered like the magnitudes."""
    unsigned = np.dtype(f"<u{STORED_AS[dtype].itemsize}")
    without_sign = np.array(np.iinfo(unsigned).max >> 1, dtype=unsigned)
    bits: Array = np.frombuffer(data, dtype=unsigned) & without_sign
    return bits


def tensor_at(header: Header, position: int) -> TensorEntry:
    return next(tensor for tensor in header.tensors if tensor.begin <= position < tensor.end)


def _advice(name: str) -> str:
    """What to do about a tensor that is not `base_model.model.….lora_A.weight` or B."""
    for sign, advice in ADVICE.items():
        if sign in name:
            return advice
    return "Save the LoRA alone, with peft's save_pretrained(folder, save_embedding_layers=False)."


def _facts(
    config: AdapterConfig, header: Header, layers: tuple[AdapterLayer, ...], dtype: str, sha256: str
) -> AdapterFacts:
    return AdapterFacts(
        base=config.base,
        revision=config.revision,
        task_type=config.task_type,
        rank=config.rank,
        alpha=config.alpha,
        use_rslora=config.use_rslora,
        scaling=config.scaling,
        targets=config.targets,
        layers=layers,
        parameters=sum(config.rank * (layer.d_in + layer.d_out) for layer in layers),
        dtype=dtype,
        weights_sha256=sha256,
        size_bytes=header.size_bytes,
        config=config.plain,
        prompt_template=config.prompt_template,
    )
