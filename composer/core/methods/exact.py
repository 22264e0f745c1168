"""The exact weighted sum of the modules' deltas.

`sum_adapters` and `concatenate_modules` also serve the methods with weights by layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, OneWeightPerModule, PlainLora, SharedFactors
from composer.core.modules.module_stack import ModuleStack


class ExactSum(OneWeightPerModule):
    """ΔW = Σ wᵢ sᵢ BᵢAᵢ: the weighted sum of the modules' own deltas, without cross terms.

    N weights, one per module for all layers. The sum is linear in the weights: the average of two weight
    vectors gives the average of two deltas, and the gradient at w = 0 is not zero. Ranks, scalings and
    target modules may differ.

    Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025, with one weight per module for all layers and
    without the softmax: negative weights and totals above 1 are allowed.
    """

    name = "exact"

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, N), differentiable in the weights."""
        return sum_adapters(self.stack, weights.unsqueeze(1).expand(-1, len(self.stack.layers), -1))

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (N,); its rank is the sum of the ranks of the modules at w ≠ 0."""
        coefficients = torch.tensor([list(weights)], dtype=torch.float64)
        return concatenate_modules(self.stack, coefficients.expand(len(self.stack.layers), -1))


def sum_adapters(stack: ModuleStack, coefficients: Tensor) -> Adapters:
    """Return P exact sums Σᵢ cᵢ sᵢ BᵢAᵢ, differentiable in the coefficients.

    Args:
        stack: N modules on L layers.
        coefficients: (P, L, N), on any device.
    """
    on_device = coefficients.to(stack.scalings.device)
    between = (on_device * stack.scalings).repeat_interleave(stack.rank, dim=-1)  # (P, L, N * rank)
    return {
        own.path: SharedFactors(pair, between[:, layer : layer + 1])
        for layer, (own, pair) in enumerate(zip(stack.layers, stack.concatenated, strict=True))
    }


def concatenate_modules(stack: ModuleStack, coefficients: Tensor) -> PlainLora:
    """Return one exact sum as one adapter, by concatenating the factors.

    A = [A₁; …; A_N] is (r, d_in), B = [c₁s₁B₁, …, c_N s_N B_N] is (d_out, r), r = Σ rᵢ and alpha = r.
    Modules whose coefficients are zero in every layer are left out. If that is every module, the first
    one stays with B = 0, because an adapter needs a rank of at least 1. Where a module does not change a
    layer, its block is zeros, so that the rank is the same in every layer: peft reads a rank by layer as
    a regular expression.

    Args:
        stack: N modules on L layers.
        coefficients: (L, N).
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
