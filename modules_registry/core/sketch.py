"""A few hundred numbers that stand for what an adapter does, so that similarity is a dot product.

The adapter adds ΔW = scaling · B @ A to each layer. For random signs u (d_out,) and v (d_in,),

    E[(uᵀ ΔW₁ v)(uᵀ ΔW₂ v)] = tr(ΔW₁ᵀ ΔW₂) = <ΔW₁, ΔW₂>

so the products uᵀBAv, summed over the layers and taken for 256 draws of (u, v), have in expectation the inner
product of the deltas themselves: a Johnson-Lindenstrauss sketch. ΔW is never formed. The signs come from a
hash of the layer's path and its width, so a sketch means the same on every machine and for ever.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modules_registry.core.adapter_file import WeightsSource, open_weights, read_header, read_tensor
from modules_registry.core.gate import group_tensors
from modules_registry.core.tensor_names import RepairedNames

SKETCH_LENGTH = 256  # the cosine of two sketches is then off by about 1/16 at most times

Matrix = npt.NDArray[np.float32]


def sketch(weights_source: WeightsSource, scaling: float) -> npt.NDArray[np.float32]:
    """Sketch an adapter that has passed the gate: (256,). Zero for an adapter that changes nothing."""
    total = np.zeros(SKETCH_LENGTH)
    for path, a, b in _factors(weights_source):
        left = signs(f"{path} out", b.shape[0]) @ b  # (256, r)
        right = signs(f"{path} in", a.shape[1]) @ a.T  # (256, r)
        total += (left * right).sum(axis=1, dtype=np.float64)
    return (scaling * total / math.sqrt(SKETCH_LENGTH)).astype(np.float32)


def similarity(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """The cosine of two sketches, from -1 to 1: an estimate of the cosine of the deltas. 0 if one is zero."""
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / norms if norms else 0.0


def signs(name: str, width: int) -> Matrix:
    """256 rows of random signs, the same wherever and whenever they are asked for."""
    bits = hashlib.shake_256(name.encode()).digest(SKETCH_LENGTH * math.ceil(width / 8))
    rows = np.unpackbits(np.frombuffer(bits, dtype=np.uint8).reshape(SKETCH_LENGTH, -1), axis=1)
    return 1 - 2 * rows[:, :width].astype(np.float32)


def _factors(source: WeightsSource) -> Iterator[tuple[str, Matrix, Matrix]]:
    """The path, A (r, d_in) and B (d_out, r) of each layer, one layer at a time."""
    with open_weights(source) as file:
        header = read_header(file)
        for path, pair in sorted(group_tensors(header.tensors, RepairedNames()).items()):
            a, b = read_tensor(file, header, pair.a), read_tensor(file, header, pair.b)
            yield path, a.astype(np.float32), b.astype(np.float32)
