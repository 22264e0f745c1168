"""A few hundred numbers that stand for what an adapter does, so that similarity is a dot product.

The adapter adds ΔW = scaling · B @ A to each layer. For random signs u (d_out,) and v (d_in,),

    E[(uᵀ ΔW₁ v)(uᵀ ΔW₂ v)] = tr(ΔW₁ᵀ ΔW₂) = <ΔW₁, ΔW₂>

so the products uᵀBAv, summed over the layers and taken for 256 draws of (u, v), have in expectation the inner
product of the deltas themselves: a Johnson-Lindenstrauss sketch. ΔW is never formed. The signs come from a
hash of the layer's path and its width, so a sketch means the same on every machine and for ever.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modules_registry.core.delta import Layer, Matrix, Strength, digest_layer, strength_of

SKETCH_LENGTH = 256  # the cosine of two sketches is then off by about (1 - cosine²) / 16 at most times


@dataclass(frozen=True)
class Measured:
    """All that is read from the weights of an adapter in one pass."""

    sketch: npt.NDArray[np.float32]  # (256,)
    strengths: tuple[Strength, ...]  # in the order of the layers
    sha256: str  # of the deltas' factors: equal for the same adapter in another file

    @property
    def norm(self) -> float:
        """‖ΔW‖_F over all layers, exact."""
        return math.sqrt(sum(strength.norm**2 for strength in self.strengths))


def sketch(layers: Iterable[Layer]) -> npt.NDArray[np.float32]:
    """Sketch an adapter that has passed the gate: (256,). Zero for an adapter that changes nothing."""
    total = np.zeros(SKETCH_LENGTH)
    for layer in layers:
        total += sketch_layer(layer)
    return scaled(total)


def measure(layers: Iterable[Layer]) -> Measured:
    """Sketch an adapter, measure each layer and hash it, with one layer in memory at a time."""
    total, strengths, digest = np.zeros(SKETCH_LENGTH), [], hashlib.sha256()
    for layer in layers:
        total += sketch_layer(layer)
        strengths.append(strength_of(layer))
        digest_layer(digest, layer)
    return Measured(scaled(total), tuple(strengths), digest.hexdigest())


def similarity(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """The cosine of two sketches, from -1 to 1: an estimate of the cosine of the deltas. 0 if one is zero."""
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / norms if norms else 0.0


def signs(name: str, width: int) -> Matrix:
    """256 rows of random signs, the same wherever and whenever they are asked for."""
    bits = hashlib.shake_256(name.encode()).digest(SKETCH_LENGTH * math.ceil(width / 8))
    rows = np.unpackbits(np.frombuffer(bits, dtype=np.uint8).reshape(SKETCH_LENGTH, -1), axis=1)
    return 1 - 2 * rows[:, :width].astype(np.float32)


def sketch_layer(layer: Layer) -> npt.NDArray[np.float64]:
    """The products scaling · uᵀBAv of one layer: (256,)."""
    left = signs(f"{layer.path} out", layer.B.shape[0]) @ layer.B  # (256, r)
    right = signs(f"{layer.path} in", layer.A.shape[1]) @ layer.A.T  # (256, r)
    products: npt.NDArray[np.float64] = layer.scaling * (left * right).sum(axis=1, dtype=np.float64)
    return products


def scaled(total: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (total / math.sqrt(SKETCH_LENGTH)).astype(np.float32)
