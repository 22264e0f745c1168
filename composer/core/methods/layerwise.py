"""Exact sums that weigh every layer by itself.

ΔW^ℓ = Σ cᵢ^ℓ sᵢ BᵢAᵢ. A layer here is one adapted linear layer, not a whole transformer block: the
formula of LoRA Soups is for one weight matrix, and the code published with it keeps its scalars in
every adapted linear layer. So there are L x N numbers, where exact has N.

L x N numbers learn a handful of examples by heart far more easily than N do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, PlainLora
from composer.core.methods.exact import concatenate_modules, sum_adapters
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.choices import WEIGHT_BOUND

LOGIT_BOUND = 10.0  # two modules this far apart: one has e²⁰ times the weight of the other


class LayerwiseWeights:
    """The coefficients themselves are the weights: any sign and any total, from zero."""

    name = "cat-layers"
    bound = WEIGHT_BOUND

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack
        self.holders = stack.holders()  # (L, N)

    @property
    def n_weights(self) -> int:
        return self.holders.numel()

    @property
    def start(self) -> Tensor:
        return torch.zeros(self.n_weights)

    def coefficients(self, weights: Tensor) -> Tensor:
        """(P, L, N) of weights (P, L * N), layer by layer; zero where a module lacks the layer."""
        return weights.reshape(-1, *self.holders.shape) * self.holders

    def adapters(self, weights: Tensor) -> Adapters:
        return sum_adapters(self.stack, self.coefficients(weights))

    def lora(self, weights: Sequence[float]) -> PlainLora:
        return concatenate_modules(self.stack, self.by_layer(weights))

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        """The mean of a module's coefficients over the layers that it changes."""
        summed = self.by_layer(weights).sum(0) / self.holders.sum(0)
        return tuple(summed.tolist())

    def by_layer(self, weights: Sequence[float]) -> Tensor:
        return self.coefficients(torch.tensor([list(weights)], dtype=torch.float64))[0]


class LayerwiseSoftmax(LayerwiseWeights):
    """LoRA Soups CAT: in each layer the coefficients are a softmax over the modules that change it.

    They are positive and add up to one, so nothing can be taken away and no module is left out.
    The weights are the softmax's logits; all zero is the uniform average, where the published
    training starts too.

    Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025. Its own merge() ignores the trained
    weights; here they are in the adapter that is written.
    """

    name = "cat"
    bound = LOGIT_BOUND

    def coefficients(self, weights: Tensor) -> Tensor:
        logits = weights.reshape(-1, *self.holders.shape)
        # a finite minimum: a layer that none of these modules changes has zeros, not NaN
        masked = logits.masked_fill(~self.holders, torch.finfo(logits.dtype).min)
        return masked.softmax(-1) * self.holders


class Auto(LayerwiseWeights):
    """The method whose weights `search_auto` finds."""

    name = "auto"

    def spread(self, weights: Tensor) -> Tensor:
        """(P, L * N): one weight a module (P, N), the same in every layer."""
        return weights.unsqueeze(1).expand(-1, *self.holders.shape).flatten(1)
