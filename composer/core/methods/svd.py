"""Merging whole updates and cutting the result to a small rank.

The sum, or the TIES merge, of N modules has a higher rank than one module. Both methods here
search on the whole of it, which is linear in the weights, and cut once at the end: a cut for each
candidate would cost more than scoring it, and has no gradient where singular values meet. The
loss that is reported for the result is that of the adapter after the cut.
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
    """The exact sum, then in each layer the nearest update of the modules' own (largest) rank.

    Source: peft, add_weighted_adapter(combination_type="svd"), without its clamping; in one
    respect otherwise: peft keeps the first module's use_rslora for the result, whose alpha / r it
    then gets wrong by √r.
    """

    name = "svd"

    def lora(self, weights: Sequence[float]) -> PlainLora:
        return truncate_rank(super().lora(weights), self.stack.rank)


class TruncatedTies(OneWeightPerModule):
    """TIES on the updates themselves, layer by layer, then cut to the modules' own (largest) rank.

    Of each module's s BA the largest fifth is kept; a sign is elected for each entry by their sum,
    before weighting; the weighted entries that have it are averaged. So the merge is linear in the
    weights. The paper trims over the whole model instead of each layer.

    Source: Yadav et al., TIES-Merging, arXiv:2306.01708, on whole updates as in peft,
    add_weighted_adapter(combination_type="ties_svd"); the use_rslora remark of TruncatedSum holds.
    """

    name = "ties_svd"

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack
        # (N, d_out, d_in) of each layer; the entries are computed anew, as they take four times as much
        self.counted = [
            agreement(keep_largest(deltas, density=TIES_DENSITY)) for _, deltas in whole_deltas(stack)
        ]

    def merged(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(path, ΔW (P, d_out, d_in)) of each layer before the cut."""
        w = weights.to(self.stack.scalings.device)
        for (path, deltas), counted in zip(whole_deltas(self.stack), self.counted, strict=True):
            shares = deltas * counted / counted.sum(0).clamp(min=1)
            yield path, (w @ shares.flatten(1)).view(-1, *shares.shape[1:])

    def adapters(self, weights: Tensor) -> Adapters:
        return {path: WholeDelta(delta) for path, delta in self.merged(weights)}

    def lora(self, weights: Sequence[float]) -> PlainLora:
        merged = self.merged(torch.tensor([list(weights)], dtype=torch.float32))
        parts = ((path, *torch.linalg.svd(delta[0].double(), full_matrices=False)) for path, delta in merged)
        return truncate_factors(parts, self.stack.rank)


def whole_deltas(stack: ModuleStack) -> Iterator[tuple[str, Tensor]]:
    """(path, sᵢ BᵢAᵢ (N, d_out, d_in)) of each layer."""
    scalings = stack.scalings.view(-1, 1, 1)
    for path, A, B in stack.factors():
        yield path, scalings * (B @ A)


def truncate_rank(lora: PlainLora, rank: int) -> PlainLora:
    """The nearest adapter of this rank; `energy_kept` counts what earlier cuts left out too.

    QR of both factors, then an SVD of the small core between them; the (d_out, d_in) product is
    never made.
    """
    shorter = truncate_factors(singular_parts(lora), rank)
    kept = shorter.energy_kept * lora.energy_kept
    return PlainLora(shorter.factors, rank, shorter.alpha, kept)


def singular_parts(lora: PlainLora) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """(path, U (d_out, k), S (k,), Vᵀ (k, d_in)) of each layer's update, fp64, without making the update."""
    root = math.sqrt(lora.alpha / lora.rank)
    for path, (A, B) in lora.factors.items():
        Q_B, R_B = torch.linalg.qr(root * B.double())
        Q_A, R_A = torch.linalg.qr(root * A.double().T)
        U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
        yield path, Q_B @ U, S, Vh @ Q_A.T


def truncate_factors(parts: Iterator[tuple[str, Tensor, Tensor, Tensor]], rank: int) -> PlainLora:
    """The adapter of the `rank` largest singular values of each layer.

    A and B share each singular value by its root. Each singular vector's sign is fixed by its
    largest entry, so the bytes repeat.

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
