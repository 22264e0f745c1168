"""The exact weighted sum of the modules' deltas."""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, OneWeightPerModule, PlainLora, SharedFactors
from composer.core.modules.module_stack import ModuleStack


class ExactSum(OneWeightPerModule):
    """ΔW = Σ wᵢ sᵢ BᵢAᵢ: the modules' own deltas, weighted, with nothing between them.

    Linear in the weights, so the average of two weight vectors is the average of two
    deltas, and a gradient at w = 0 is not zero. Ranks, scalings and targets may differ.

    Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025, with one weight per module
    for all layers and no softmax: negative weights and totals above 1 are allowed.
    """

    name = "exact"

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack

    def adapters(self, weights: Tensor) -> Adapters:
        return sum_adapters(self.stack, weights.unsqueeze(1).expand(-1, len(self.stack.layers), -1))

    def lora(self, weights: Sequence[float]) -> PlainLora:
        coefficients = torch.tensor([list(weights)], dtype=torch.float64)
        return concatenate_modules(self.stack, coefficients.expand(len(self.stack.layers), -1))


def sum_adapters(stack: ModuleStack, coefficients: Tensor) -> Adapters:
    """P exact sums Σ cᵢ sᵢ BᵢAᵢ with coefficients (P, L, N), differentiable in them."""
    on_device = coefficients.to(stack.scalings.device)
    between = (on_device * stack.scalings).repeat_interleave(stack.rank, dim=-1)  # (P, L, N * rank)
    return {
        path: SharedFactors(A, B, between[:, layer : layer + 1])
        for layer, (path, A, B) in enumerate(stack.concatenated_factors())
    }


def concatenate_modules(stack: ModuleStack, coefficients: Tensor) -> PlainLora:
    """The exact sum with coefficients (L, N) as one adapter, by rank concatenation.

    A = [A₁; …; A_N], B = [c₁s₁B₁, …, c_N s_N B_N], r = Σ rᵢ, alpha = r. Modules whose coefficients
    are all zero are left out. If that is every module the first stays, as zeros, because an adapter
    without any rank is no adapter. A layer that a module lacks gets a block of zeros from it, so
    that the rank is the same everywhere: peft reads a rank by layer as a regular expression.
    """
    kept = coefficients.any(0).nonzero().flatten().tolist() or [0]
    scaled = (coefficients.cpu() * stack.scalings.cpu()).tolist()
    rank = sum(stack.ranks[i] for i in kept)
    factors = {
        path: (
            torch.cat([A[i, : stack.ranks[i]] for i in kept], dim=0),
            torch.cat([scaled[layer][i] * B[i, :, : stack.ranks[i]] for i in kept], dim=1),
        )
        for layer, (path, A, B) in enumerate(stack.factors())
    }
    return PlainLora(factors, rank=rank, alpha=float(rank))
