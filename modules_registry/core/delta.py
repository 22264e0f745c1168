"""What an adapter adds to its base, ΔW = scaling · B @ A of each layer, measured without forming a ΔW.

Convention, as in peft: A is (r, d_in), B is (d_out, r). All follows from products that are r wide:

    <ΔW₁, ΔW₂> = s₁s₂ · sum((B₁ᵀB₂) ∘ (A₁A₂ᵀ))        singular values of ΔW = s · those of R_B R_Aᵀ

where B = Q_B R_B and Aᵀ = Q_A R_A. Sums are in float64, so that the distance of nearly equal adapters is
right.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from modules_registry.core.adapter_config import AdapterConfig
from modules_registry.core.adapter_file import Header, WeightsSource, open_weights, read_header, read_tensor
from modules_registry.core.gate import describe_adapter

Matrix = npt.NDArray[np.float32]

NEAR_COPY = 0.999  # the cosine of two deltas from which one is called a near-copy of the other
BLOCK = re.compile(r"\.(?P<number>\d+)\.")


@dataclass(frozen=True)
class Layer:
    """The factors of one adapted layer."""

    path: str  # "encoder.block.0.layer.0.SelfAttention.q"
    A: Matrix  # (r, d_in)
    B: Matrix  # (d_out, r)
    scaling: float  # what multiplies B @ A here

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of ΔW."""
        return self.B.shape[0], self.A.shape[1]


@dataclass(frozen=True)
class Strength:
    """How much an adapter changes one layer."""

    path: str
    norm: float  # ‖ΔW‖_F
    largest: float  # the largest singular value of ΔW, ‖ΔW‖₂

    @property
    def stable_rank(self) -> float:
        """‖ΔW‖_F² / ‖ΔW‖₂²: how many directions carry the change, from 1 to r; 0 for a change of nothing."""
        return (self.norm / self.largest) ** 2 if self.largest else 0.0


@dataclass(frozen=True)
class LayerDistance:
    """How far two adapters lie apart in one layer. A layer that one of them leaves alone counts as ΔW = 0."""

    path: str
    first_norm: float  # ‖ΔW₁‖_F
    second_norm: float  # ‖ΔW₂‖_F
    distance: float  # ‖ΔW₁ - ΔW₂‖_F
    cosine: float  # of ΔW₁ and ΔW₂, -1 to 1; 0 if one is zero


@dataclass(frozen=True)
class DeltaDistance:
    """How far two adapters lie apart, over all layers together and in each."""

    first_norm: float
    second_norm: float
    distance: float
    cosine: float
    layers: tuple[LayerDistance, ...]  # in the order of their paths


class Delta:
    """An adapter, read one layer at a time. Its names are repaired as the gate does it."""

    def __init__(self, file: BinaryIO, config: AdapterConfig) -> None:
        self._file = file
        self._header: Header = read_header(file)
        described = describe_adapter(config, self._header)
        self._config, self._tensors = described.config, described.tensors
        self.not_composable = described.not_composable  # why ΔW is not B @ A alone, as of a DoRA; or empty

    @property
    def paths(self) -> list[str]:
        """The adapted layers, sorted."""
        return sorted(self._tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(d_out, d_in) of each adapted layer by its path."""
        return {path: (pair.b.shape[0], pair.a.shape[1]) for path, pair in self._tensors.items()}

    def layer(self, path: str) -> Layer | None:
        """The factors of a layer in float32; None if the adapter leaves it alone."""
        found = self._tensors.get(path)
        if found is None:
            return None
        A = read_tensor(self._file, self._header, found.a).astype(np.float32)
        B = read_tensor(self._file, self._header, found.b).astype(np.float32)
        scaling = self._config.scaling_of(A.shape[0], self._config.alpha_of(path))
        return Layer(path, A, B, scaling)

    def __iter__(self) -> Iterator[Layer]:
        for path in self.paths:
            layer = self.layer(path)
            assert layer is not None
            yield layer


@contextmanager
def open_delta(weights: WeightsSource, config: AdapterConfig) -> Iterator[Delta]:
    """Open an adapter.

    Raises:
        GateRefusal: it is no safetensors file of LoRA factors, or it does not agree with its config.
    """
    with open_weights(weights) as file:
        yield Delta(file, config)


def strength_of(layer: Layer) -> Strength:
    """Measure one layer, exactly."""
    R_B = np.linalg.qr(layer.B.astype(np.float64)).R  # (≤r, r)
    R_A = np.linalg.qr(layer.A.T.astype(np.float64)).R  # (≤r, r)
    values = layer.scaling * np.linalg.svd(R_B @ R_A.T, compute_uv=False)
    return Strength(layer.path, float(np.linalg.norm(values)), float(values.max(initial=0.0)))


def digest_layer(digest: "hashlib._Hash", layer: Layer) -> None:
    """Add a layer to the hash of an adapter's deltas: its values, whatever header and precision."""
    digest.update(f"{layer.path} {layer.A.shape} {layer.B.shape} {layer.scaling!r}\n".encode())
    digest.update(layer.A.astype("<f4").tobytes())
    digest.update(layer.B.astype("<f4").tobytes())


def delta_distance(first: Delta, second: Delta) -> DeltaDistance:
    """Measure how far two adapters lie apart, exactly. Two matrices that cannot be compared have cosine 0.

    Layers of one path and of different shapes, of two bases, are counted as orthogonal.
    """
    layers = []
    first_total = second_total = inner_total = 0.0
    for path in sorted({*first.paths, *second.paths}):
        one, other = first.layer(path), second.layer(path)
        one_squared, other_squared = _inner(one, one), _inner(other, other)
        inner = _inner(one, other)
        layers.append(_distance(path, one_squared, other_squared, inner))
        first_total += one_squared
        second_total += other_squared
        inner_total += inner
    total = _distance("", first_total, second_total, inner_total)
    return DeltaDistance(
        total.first_norm, total.second_norm, total.distance, total.cosine, layers=tuple(layers)
    )


def _inner(one: Layer | None, other: Layer | None) -> float:
    """<ΔW₁, ΔW₂>; 0 where a layer is missing."""
    if one is None or other is None or one.shape != other.shape:
        return 0.0
    by_outputs = one.B.astype(np.float64).T @ other.B.astype(np.float64)  # (r₁, r₂)
    by_inputs = one.A.astype(np.float64) @ other.A.astype(np.float64).T  # (r₁, r₂)
    return float(one.scaling * other.scaling * (by_outputs * by_inputs).sum())


def _distance(path: str, first_squared: float, second_squared: float, inner: float) -> LayerDistance:
    norms = math.sqrt(max(first_squared, 0.0)), math.sqrt(max(second_squared, 0.0))
    cosine = inner / (norms[0] * norms[1]) if all(norms) else 0.0
    squared = first_squared + second_squared - 2 * inner
    return LayerDistance(path, *norms, math.sqrt(max(squared, 0.0)), max(-1.0, min(1.0, cosine)))


def split_path(path: str) -> tuple[str, int, str]:
    """ "encoder.block.3.layer.0.SelfAttention.q" -> ("encoder", 3, "SelfAttention.q"): stack, block, target.

    The first number is the block; a layer outside all blocks is in block 0 of a stack without a name.
    """
    found = BLOCK.search(path)
    if found is None:
        return "", 0, path
    stack = re.sub(r"\.(?:block|layers|layer|h)\Z", "", path[: found.start()])
    target = re.sub(r"\A(?:(?:layer|layers)\.\d+\.)+", "", path[found.end() :])
    return stack.removeprefix("model."), int(found["number"]), target
