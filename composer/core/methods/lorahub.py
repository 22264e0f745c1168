"""LoraHub's composition: the product of the weighted sums of both factors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import (
    Adapters,
    OneWeightPerModule,
    OwnFactors,
    PlainLora,
    require_equal_shapes,
)
from composer.core.modules.module_stack import ModuleStack


class FactorSum(OneWeightPerModule):
    """ΔW = s (Σ wᵢBᵢ)(Σ wⱼAⱼ): the weighted sum of all B times the weighted sum of all A.

    N weights. The product holds the cross terms wᵢwⱼBᵢAⱼ and is quadratic in the weights: one module at
    w = 0.5 keeps a quarter of its delta, w and -w are the same adapter, and at w = 0 the gradient is zero.
    peft's combination_type="linear" differs: it puts √|w| on each factor.

    Source: Huang et al., LoraHub, arXiv:2307.13269, eq. 1.
    """

    name = "lorahub"

    def __init__(self, stack: ModuleStack) -> None:
        """Take a stack of N modules with one rank, one set of target modules and one alpha / r.

        Raises:
            MismatchedModulesError: the modules differ in one of these.
        """
        require_equal_shapes(stack, self.name)
        self.stack = stack
        self.scaling = float(stack.scalings[0])

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, N): factors A (P, rank, d_in) and B (P, d_out, rank)."""
        mixed = self.stack.weighted_factors(weights.to(self.stack.scalings.device))
        return {path: OwnFactors(A, self.scaling * B) for path, A, B in mixed}

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (N,): A = Σ wᵢAᵢ, B = Σ wᵢBᵢ, the modules' own rank and alpha."""
        w = torch.tensor([list(weights)], dtype=torch.float32, device=self.stack.scalings.device)
        factors = {path: (A[0], B[0]) for path, A, B in self.stack.weighted_factors(w)}
        return PlainLora(factors, rank=self.stack.rank, alpha=self.scaling * self.stack.rank)
