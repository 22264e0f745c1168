"""May this adapter be published? Standard library and numpy only: nothing here loads a model or a pickle.

Everything is an allow-list: the keys and values of the config (adapter_config), the form of the file
(adapter_file), the names of the tensors (tensor_names), and here the tensors: a pair A (r, d_in),
B (d_out, r) for each layer, DoRA's magnitudes (d_out) beside them or not, no other tensor, every value
finite. The weights say which layers are adapted; the config's list of names is written after them.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from modules_registry.core.adapter_config import NAME_ATTENTION, AdapterConfig, endings, matches, read_config
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
from modules_registry.core.base_shapes import ROUTERS
from modules_registry.core.base_weights import BaseShapes, BaseWeights
from modules_registry.core.errors import (
    Findings,
    Repair,
    WeightsRefusal,
)
from modules_registry.core.strict_json import quote_value
from modules_registry.core.tensor_names import (
    EXPERTS,
    LayersTest,
    RepairedNames,
    base_parameter,
    is_lora,
    is_not_gathered,
    layer_and_factor,
    repair_names,
    require_lora_only,
)

# Whether a tensor is a copy of this parameter of the base; None: its name is that of no copy.
CopyTest = Callable[[str | None, TensorEntry], bool]

# The largest magnitude of a half-precision number, as bits without the sign. Weights beyond it are of no
# training run, and their product overflows in float32. NaN and infinity compare above it too.
MAGNITUDE_BITS = {"F32": 0x477FE000, "F16": 0x7BFF, "BF16": 0x477F}
INFINITY_BITS = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}

TARGETS_SHOWN_MAX = 12
DORA = "It is a DoRA: its magnitudes belong to its own base weights and cannot be summed with other modules'."


@dataclass(frozen=True)
class AdapterLayer:
    """A linear layer of the base model that the adapter changes."""

    path: str  # "encoder.block.0.layer.0.SelfAttention.q"
    d_out: int
    d_in: int
    rank: int
    scaling: float  # what multiplies B @ A here


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
    dtype: str  # "F32", "F16" or "BF16", that of most parameters
    weights_sha256: str
    size_bytes: int
    config: dict[str, Any]  # the config written anew, with nothing in it that a reader has to trust
    prompt_template: str  # that the config states; empty if it states none
    has_own_ranks: bool  # some layer has another rank or scaling than `rank` and `scaling`
    not_composable: str  # why it can only be shared and downloaded; empty if it can be composed
    repairs: tuple[Repair, ...]  # what was repaired
    names: Mapping[str, str]  # old name -> new name of the tensors that have to be renamed
    left_out: frozenset[str]  # names of the tensors that have to be left out: copies of the base's own


@dataclass(frozen=True)
class LayerTensors:
    """The tensors of one layer."""

    a: TensorEntry  # (r, d_in)
    b: TensorEntry  # (d_out, r)
    magnitude: TensorEntry | None  # (d_out,), of DoRA

    @property
    def all(self) -> tuple[TensorEntry, ...]:
        return (self.a, self.b) if self.magnitude is None else (self.a, self.b, self.magnitude)


@dataclass(frozen=True)
class AdapterDescription:
    """An adapter by its config and the header of its weights; no value was read yet."""

    config: AdapterConfig  # as it should be: after the weights
    tensors: Mapping[str, LayerTensors]
    layers: tuple[AdapterLayer, ...]
    names: RepairedNames
    left_out: tuple[TensorEntry, ...]
    repairs: tuple[Repair, ...]

    @property
    def has_own_ranks(self) -> bool:
        usual = (self.config.rank, self.config.scaling)
        return any((layer.rank, layer.scaling) != usual for layer in self.layers)

    @property
    def not_composable(self) -> str:
        return DORA if self.config.use_dora else ""


def check_adapter(
    config_source: WeightsSource,
    weights_source: WeightsSource,
    base_shapes: BaseShapes | None = None,
    *,
    base: str | None = None,
    base_weights: BaseWeights | None = None,
) -> AdapterFacts:
    """Accept an adapter and say what it is, or raise a GateRefusal that says all that is wrong with it.

    Args:
        config_source: adapter_config.json, as a path or an open binary file.
        weights_source: adapter_model.safetensors, the same. Read once, in pieces of 1 MiB.
        base_shapes: the linear layers of the base it names, when the library has that base.
        base: the base's name, in place of the one that the config gives.
        base_weights: the base's own weights, when the library has it: copies of them are left out.
    """
    findings = Findings()
    with findings.collect():
        config = read_config(config_source, base)
    with findings.collect():
        if findings.found:
            check_form(weights_source)
        else:
            facts = check_weights(config, weights_source, base_shapes, base_weights)
    findings.raise_all()
    return facts


def check_weights(
    config: AdapterConfig,
    weights_source: WeightsSource,
    base_shapes: BaseShapes | None = None,
    base_weights: BaseWeights | None = None,
) -> AdapterFacts:
    """The same, once the config is read."""
    findings = Findings()
    with open_weights(weights_source) as file:
        header = read_header(file)
        with findings.collect():
            is_copy = copy_test(base_weights, file, header)
            described = describe_adapter(config, header, base_shapes, is_copy)
        with findings.collect():
            sha256 = hash_finite(file, header)
    findings.raise_all()
    return _facts(described, header, sha256)


def describe_adapter(
    config: AdapterConfig,
    header: Header,
    base_shapes: BaseShapes | None = None,
    is_copy: CopyTest | None = None,
    base_paths: Collection[str] | None = None,
) -> AdapterDescription:
    """Hold the header of the weights against the config, and write the config's list of layers after it.

    Args:
        base_paths: of the base's linear layers, where they are known and not to be compared.
    """
    findings = Findings()
    are_layers = layers_test(config, base_shapes if base_paths is None else base_paths)
    names, left_out, tensors = sort_tensors(header, findings, is_copy, are_layers)
    with findings.collect():
        layers = measure_all(tensors, config)
    findings.raise_all()
    repairs = [*config.repairs, *names.repairs, *_said_of_copies(left_out, names)]
    config = _with_dora(config, tensors, repairs)
    config = _with_ranks(config, layers)
    config = _with_targets(config, layers, base_shapes, repairs)
    if base_shapes is not None:
        check_base(layers, config, base_shapes)
    return AdapterDescription(config, tensors, layers, names, left_out, tuple(repairs))


def layers_test(config: AdapterConfig, base_paths: Collection[str] | None) -> LayersTest:
    """Whether paths are layers that this adapter can be for: those of the base, or else of the config.

    Without the base, a path that begins with “model.” can be meant with that part and without it. In a
    decoder it belongs to the path: only there “model.layers.” stands for both.
    """

    def are_layers(paths: Collection[str]) -> bool:
        if base_paths is not None:
            return set(paths) <= set(base_paths)
        wanted = frozenset(config.targets)
        if not config.names_all_layers or not all(matches(path, wanted) for path in paths):
            return False
        return config.task_type != "CAUSAL_LM" or not all(path.startswith("layers.") for path in paths)

    return are_layers


def copy_test(base_weights: BaseWeights | None, file: BinaryIO, header: Header) -> CopyTest | None:
    """What holds tensors of this file against the base's own weights; None without these: all are kept."""
    return partial(base_weights.has_copy, file, header) if base_weights is not None else None


def check_form(weights_source: WeightsSource) -> None:
    """Hold the weights against all that needs no config: for when the config is refused or not there yet."""
    findings = Findings()
    with open_weights(weights_source) as file:
        header = read_header(file)
        with findings.collect():
            check_header(header)
        with findings.collect():
            hash_finite(file, header)
    findings.raise_all()


def check_header(header: Header) -> None:
    """Hold the header of the weights against all that needs no config."""
    findings = Findings()
    sort_tensors(header, findings, seems_copy)
    findings.raise_all()


def seems_copy(parameter: str | None, tensor: TensorEntry) -> bool:
    """Before the base's values are read: what has the name of a copy may be one."""
    return parameter is not None


def sort_tensors(
    header: Header,
    findings: Findings,
    is_copy: CopyTest | None,
    are_layers: LayersTest | None = None,
) -> tuple[RepairedNames, tuple[TensorEntry, ...], dict[str, LayerTensors]]:
    """The names as they should be, the tensors to leave out, and those of each layer.

    Args:
        findings: gets what is wrong; then some layers may be missing.
    """
    names = repair_names(header.tensors, are_layers)
    left_out: list[TensorEntry] = []
    kept: list[TensorEntry] = []
    for tensor in header.tensors:
        is_left_out = is_copy is not None and is_copy(base_parameter(names.of(tensor)), tensor)
        (left_out if is_left_out else kept).append(tensor)
    with findings.collect():
        require_lora_only(kept, names)
    lora = [tensor for tensor in kept if is_lora(names.of(tensor))]
    tensors: dict[str, LayerTensors] = {}
    if not any(is_not_gathered(tensor.shape) for tensor in lora):  # these have no shapes to measure
        with findings.collect():
            tensors = group_tensors(lora, names)
    return names, tuple(left_out), tensors


def _said_of_copies(left_out: Sequence[TensorEntry], names: RepairedNames) -> list[Repair]:
    if not left_out:
        return []
    shown = ", ".join(names.of(tensor) for tensor in left_out[:TARGETS_SHOWN_MAX])
    more = f" and {len(left_out) - TARGETS_SHOWN_MAX} more" if len(left_out) > TARGETS_SHOWN_MAX else ""
    return [Repair("base_weights", f"Left copies of the base model's own weights out: {shown}{more}.")]


def group_tensors(tensors: Sequence[TensorEntry], names: RepairedNames) -> dict[str, LayerTensors]:
    """Find the A and the B of each layer; nothing may be left over."""
    factors: dict[str, dict[str, TensorEntry]] = {}
    for tensor in tensors:
        path, factor = layer_and_factor(names.of(tensor))
        factors.setdefault(path, {})[factor] = tensor
    missing = [(path, factor) for path, found in factors.items() for factor in "AB" if factor not in found]
    if missing:
        path, factor = missing[0]
        raise WeightsRefusal(
            "factor_missing",
            f"Layer {path} {in_all(len(missing))} lacks its lora_{factor}. Save the adapter again.",
        )
    return {
        path: LayerTensors(found["A"], found["B"], found.get("magnitude")) for path, found in factors.items()
    }


def measure_all(tensors: Mapping[str, LayerTensors], config: AdapterConfig) -> tuple[AdapterLayer, ...]:
    """The dimensions of all layers, in the order of their paths. Each cause of a refusal is said once."""
    measured: list[AdapterLayer] = []
    of_layers = Findings()
    for path, found in sorted(tensors.items()):
        with of_layers.collect():
            measured.append(measure(path, found, config))
    counts = Counter(refusal.code for refusal in of_layers.found)
    first = {refusal.code: refusal for refusal in reversed(of_layers.found)}
    findings = Findings()
    for code, count in counts.items():
        findings.add(WeightsRefusal(code, f"{first[code].message} Such layers in all: {count}."))
    findings.raise_all()
    return tuple(measured)


def in_all(count: int) -> str:
    """Of how many layers a sentence holds that names the first of them."""
    return f"(such layers in all: {count})"


def measure(path: str, tensors: LayerTensors, config: AdapterConfig) -> AdapterLayer:
    """The layer's dimensions, once both factors have the rank of the config."""
    for tensor in (tensors.a, tensors.b):
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            raise WeightsRefusal(
                "not_a_matrix",
                f"{tensor.name} has shape {quote_value(tensor.shape)}. "
                "Only LoRA on linear layers is supported.",
            )
    (rank_of_a, d_in), (d_out, rank_of_b) = tensors.a.shape, tensors.b.shape
    rank = rank_of_a if config.has_rank_expressions else config.rank_of(path)
    if (rank_of_a, rank_of_b) != (rank, rank):
        raise WeightsRefusal(
            "rank_mismatch",
            f"Layer {path} has A {quote_value(tensors.a.shape)} and B {quote_value(tensors.b.shape)}; "
            f"with r = {rank}, A is ({rank}, inputs) "
            f"and B is (outputs, {rank}). Correct r or rank_pattern in adapter_config.json.",
        )
    if tensors.magnitude is not None and tensors.magnitude.shape not in ((d_out,), (1, d_out)):
        raise WeightsRefusal(
            "magnitude_shape",
            f"{tensors.magnitude.name} has shape {quote_value(tensors.magnitude.shape)}, but the layer has "
            f"{d_out} outputs. Save the adapter again.",
        )
    return AdapterLayer(path, d_out, d_in, rank, config.scaling_of(rank, config.alpha_of(path)))


def _with_dora(
    config: AdapterConfig, tensors: Mapping[str, LayerTensors], repairs: list[Repair]
) -> AdapterConfig:
    """An adapter with magnitudes is a DoRA, and a DoRA has them in every layer."""
    without = [path for path, found in tensors.items() if found.magnitude is None]
    if len(without) == len(tensors) and not config.use_dora:
        return config
    if without:
        raise WeightsRefusal(
            "magnitude_missing",
            f"This is a DoRA, but layer {without[0]} {in_all(len(without))} lacks its lora_magnitude_vector. "
            "Save the adapter again.",
        )
    if not config.use_dora:
        repairs.append(Repair("use_dora", "Set use_dora to true: the weights hold DoRA's magnitudes."))
    return replace(config, use_dora=True)


def _with_ranks(config: AdapterConfig, layers: Sequence[AdapterLayer]) -> AdapterConfig:
    """Where rank_pattern held regular expressions, it names each layer of another rank instead."""
    if not config.has_rank_expressions:
        return config
    own = {f"^{layer.path}": layer.rank for layer in layers if layer.rank != config.rank}
    return replace(config, rank_pattern=own, has_rank_expressions=False)


def _with_targets(
    config: AdapterConfig,
    layers: Sequence[AdapterLayer],
    base_shapes: BaseShapes | None,
    repairs: list[Repair],
) -> AdapterConfig:
    """The config's list of layers after the weights: exactly those that the file holds."""
    present = {ending for layer in layers for ending in endings(layer.path)}
    used = tuple(target for target in config.targets if target in present)
    wanted = frozenset(used)
    if config.names_all_layers and all(matches(layer.path, wanted) for layer in layers):
        if used != config.targets:
            unused = ", ".join(sorted(set(config.targets) - set(used))[:TARGETS_SHOWN_MAX])
            sentence = f"Left {unused} out of target_modules: the file has no weights for them."
            repairs.append(Repair("target_modules", sentence))
        return replace(config, targets=used)
    targets = tuple(sorted(_shortest_targets(layers, base_shapes)))
    shown = ", ".join(targets[:TARGETS_SHOWN_MAX])
    more = f" and {len(targets) - TARGETS_SHOWN_MAX} more" if len(targets) > TARGETS_SHOWN_MAX else ""
    sentence = f"Set target_modules to the layers in the file: {shown}{more}."
    repairs.append(Repair("target_modules", sentence))
    return replace(config, targets=targets, names_all_layers=True)


def _shortest_targets(layers: Sequence[AdapterLayer], base_shapes: BaseShapes | None) -> set[str]:
    """Names that select these layers and no other: "q", where every layer of that name is adapted.

    Without the base's layers nobody knows of the others, so each layer is named in full.
    """
    paths = {layer.path for layer in layers}
    others = {endings(path)[-1] for path in base_shapes or () if path not in paths}
    if base_shapes is None:
        return paths
    return {path if endings(path)[-1] in others else endings(path)[-1] for path in paths}


def check_base(layers: Sequence[AdapterLayer], config: AdapterConfig, base_shapes: BaseShapes) -> None:
    """The layers are those of the base, in its dimensions, and none that peft would adapt is missing."""
    findings = Findings()
    with findings.collect():
        _require_in_base(layers, base_shapes)
    with findings.collect():
        _require_base_shapes(layers, base_shapes)
    findings.raise_all()
    present, wanted = {layer.path for layer in layers}, frozenset(config.targets)
    missing = [path for path in base_shapes if path not in present and matches(path, wanted)]
    if missing:
        raise WeightsRefusal(
            "layer_missing",
            f"target_modules covers {missing[0]} {in_all(len(missing))}, but the file "
            "has no weights for it: it is incomplete. Save it again.",
        )


def _require_in_base(layers: Sequence[AdapterLayer], base_shapes: BaseShapes) -> None:
    unknown = [layer.path for layer in layers if layer.path not in base_shapes]
    mixture = [path for path in unknown if _is_of_mixture(path)]
    others = [path for path in unknown if path not in mixture]
    findings = Findings()
    if mixture:
        message = (
            f"Layer {mixture[0]} {in_all(len(mixture))} is of a mixture-of-experts model's "
            f"experts or of their router, which are no linear layers of the base model. {NAME_ATTENTION}"
        )
        findings.add(WeightsRefusal("moe_experts", message))
    if others:
        message = (
            f"The base model has no linear layer {others[0]} {in_all(len(others))}. "
            "Check which base it was trained on."
        )
        findings.add(WeightsRefusal("layer_not_in_base", message))
    findings.raise_all()


def _is_of_mixture(path: str) -> bool:
    parts = path.split(".")
    return EXPERTS in parts or parts[-1] in ROUTERS


def _require_base_shapes(layers: Sequence[AdapterLayer], base_shapes: BaseShapes) -> None:
    others = [
        layer
        for layer in layers
        if (layer.d_out, layer.d_in) != tuple(base_shapes.get(layer.path, (layer.d_out, layer.d_in)))
    ]
    if others:
        layer, (d_out, d_in) = others[0], base_shapes[others[0].path]
        raise WeightsRefusal(
            "base_shape_mismatch",
            f"Layer {layer.path} {in_all(len(others))} is {layer.d_out} x {layer.d_in} here, but {d_out} x "
            f"{d_in} in the base model. Check which base it was trained on.",
        )


def usual_dtype(tensors: Sequence[TensorEntry]) -> str:
    """The dtype of most parameters."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + (tensor.end - tensor.begin)
    return max(sizes, key=lambda dtype: sizes[dtype])


def hash_finite(file: BinaryIO, header: Header) -> str:
    """Read the file once: its sha256, and every value finite and of a sane size."""
    file.seek(0)
    digest = hashlib.sha256(file.read(header.data_start))
    for tensor in header.tensors:
        begin = header.data_start + tensor.begin
        for piece in pieces_of(file, begin, header.data_start + tensor.end):
            digest.update(piece)
            check_values(piece, tensor)
    return digest.hexdigest()


def check_values(piece: bytes, tensor: TensorEntry) -> None:
    """Hold a piece of a tensor against the largest magnitude allowed."""
    largest = magnitude_bits(piece, tensor.dtype).max()
    if largest <= MAGNITUDE_BITS[tensor.dtype]:
        return
    if largest >= INFINITY_BITS[tensor.dtype]:
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


def _facts(described: AdapterDescription, header: Header, sha256: str) -> AdapterFacts:
    config, layers = described.config, described.layers
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
        parameters=sum(
            math.prod(tensor.shape) for found in described.tensors.values() for tensor in found.all
        ),
        dtype=usual_dtype([tensor for tensor in header.tensors if tensor not in described.left_out]),
        weights_sha256=sha256,
        size_bytes=header.size_bytes,
        config=config.plain,
        prompt_template=config.prompt_template,
        has_own_ranks=described.has_own_ranks,
        not_composable=described.not_composable,
        repairs=described.repairs,
        names=described.names.names,
        left_out=frozenset(tensor.name for tensor in described.left_out),
    )
