"""Merging whole deltas and cutting the result to a small rank by an SVD.

The sum, or the TIES merge, of N modules has a higher rank than one module. Both methods search on the
whole merge, which is linear in the weights, and cut once at the end. A cut for each candidate would
cost more than scoring it, and its gradient does not exist where singular values are equal. The loss
that the report states is that of the adapter after the cut.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, OneWeightPerModule, PlainLora, WholeDelta
from composer.core.methods.exact import ExactSum
from composer.core.methods.factorwise import TIES_DENSITY, agreement, keep_largest
from composer.core.modules.module_stack import ModuleStack


class TruncatedSum(ExactSum):
    """The exact sum, then in each layer the nearest delta of the largest of the modules' ranks; N weights.

    Source: peft, add_weighted_adapter(combination_type="svd"), without its clamping. peft also keeps the
    first module's use_rslora for the result, whose scaling is then wrong by √r; this class does not.
    """

    name = "svd"

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (N,), cut to the largest of the modules' ranks."""
        return truncate_rank(super().lora(weights), self.stack.largest_rank)


class TruncatedTies(OneWeightPerModule):
    """TIES on whole deltas, layer by layer, then a cut to the largest of the modules' ranks; N weights.

    In each layer every module keeps the largest fifth of the entries of its sᵢBᵢAᵢ. The sum over the
    modules, before weighting, elects a sign for each entry. The weighted entries with that sign are
    averaged over their number, so the merge is linear in the weights. The paper trims over the whole model
    instead of each layer.

    Source: Yadav et al., TIES-Merging, arXiv:2306.01708, on whole deltas as in peft,
    add_weighted_adapter(combination_type="ties_svd"); the note on use_rslora in TruncatedSum holds here too.
    """

    name = "ties_svd"

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack
        # (N, d_out, d_in) booleans of each layer; the fp32 deltas would need four times the memory
        self.counted = [
            agreement(keep_largest(deltas, density=TIES_DENSITY)) for _, deltas in whole_deltas(stack)
        ]

    def merged_layers(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, ΔW (P, d_out, d_in)) of each layer before the cut, for weights (P, N)."""
        w = weights.to(self.stack.scalings.device)
        for (path, deltas), counted in zip(whole_deltas(self.stack), self.counted, strict=True):
            shares = deltas * counted / counted.sum(0).clamp(min=1)
            yield path, (w @ shares.flatten(1)).view(-1, *shares.shape[1:])

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, N) before the cut, differentiable in the weights."""
        return {path: WholeDelta(delta) for path, delta in self.merged_layers(weights)}

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (N,), cut to the largest of the modules' ranks."""
        merged = self.merged_layers(torch.tensor([list(weights)], dtype=torch.float32))
        parts = ((path, *torch.linalg.svd(delta[0].double(), full_matrices=False)) for path, delta in merged)
        return truncate_factors(parts, self.stack.largest_rank)


def whole_deltas(stack: ModuleStack) -> Iterator[tuple[str, Tensor]]:
    """Yield (path, sᵢ BᵢAᵢ (N, d_out, d_in)) of each layer."""
    scalings = stack.scalings.view(-1, 1, 1)
    for path, A, B in stack.factors():
        yield path, scalings * (B @ A)


def truncate_rank(lora: PlainLora, rank: int) -> PlainLora:
    """Return the nearest adapter of this rank, in the Frobenius norm of each layer's delta.

    It takes a QR of both factors and an SVD of the small core between them, so the product (d_out, d_in)
    is never made. `energy_kept` of the result includes what earlier cuts removed.
    """
    shorter = truncate_factors(singular_parts(lora), rank)
    kept = shorter.energy_kept * lora.energy_kept
    return PlainLora(shorter.factors, rank, shorter.alpha, kept)


def singular_parts(lora: PlainLora) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Yield (path, U (d_out, k), S (k,), Vᵀ (k, d_in)) of each layer's delta, fp64.

    k is the smallest of rank, d_out and d_in. The delta itself is never made.
    """
    root = math.sqrt(lora.alpha / lora.rank)
    for path, (A, B) in lora.factors.items():
        Q_B, R_B = torch.linalg.qr(root * B.double())
        Q_A, R_A = torch.linalg.qr(root * A.double().T)
        U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
        yield path, Q_B @ U, S, Vh @ Q_A.T


def truncate_factors(parts: Iterator[tuple[str, Tensor, Tensor, Tensor]], rank: int) -> PlainLora:
    """Return the adapter of the `rank` largest singular values of each layer.

    A (rank, d_in) and B (d_out, rank) each take the root of every singular value, and alpha is `rank`. If
    a layer has fewer singular values, zeros fill the rest. The largest entry of each left singular vector
    is made positive, because an SVD leaves the sign open; so the bytes of the file repeat.

    Args:
        parts: (path, U (d_out, k), S (k,), Vᵀ (k, d_in)) of each layer, S in descending order.
        rank: at least 1.

    Source: Eckart and Young, Psychometrika 1 (1936).
    """
    factors, kept, whole = {}, 0.0, 0.0
    for path, U, S, Vh in parts:
        left, right = U[:, :rank], Vh[:rank]
        signs = left.gather(0, left.abs().argmax(0, keepdim=True)).sign()
        sizes = S[:rank].sqrt()
        A, B = torch.zeros(rank, Vh.shape[1]), torch.zeros(U.shape[0], rank)
        A[: len(sizes)] = ((signs * sizes).T * right).float()
        B[:, : len(sizes)] = (left * signs * sizes).float()
        factors[path] = (A.to(U.device), B.to(U.device))
        kept += float(S[:rank].square().sum())
        whole += float(S.square().sum())
    return PlainLora(factors, rank, float(rank), kept / whole if whole else 1.0)
