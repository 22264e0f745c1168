"""Exact sums with weights by layer.

ΔW^ℓ = Σ cᵢ^ℓ sᵢ BᵢAᵢ. A layer is one adapted linear layer, not a transformer block: the formula of
LoRA Soups is for one weight matrix, and its published code keeps its scalars in every adapted linear
layer. So there are L * N weights, where exact has N. More weights overfit a few examples more easily.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, PlainLora
from composer.core.methods.exact import concatenate_modules, sum_adapters
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.choices import WEIGHT_BOUND

LOGIT_BOUND = 10.0  # of a logit; the largest coefficient of a layer is then at most e²⁰ times the smallest


class LayerwiseWeights:
    """The L * N weights are the coefficients themselves: any sign and any total, from zero.

    Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025, without the softmax.

    Attributes:
        holders: (L, N) booleans, whether a module changes a layer.
    """

    name = "cat-layers"
    bound = WEIGHT_BOUND

    def __init__(self, stack: ModuleStack) -> None:
        self.stack = stack
        self.holders = stack.holders()  # (L, N)

    @property
    def n_weights(self) -> int:
        """Return L * N."""
        return self.holders.numel()

    @property
    def start(self) -> Tensor:
        """Return (L * N,) zeros: for coefficients no delta, for a softmax the uniform average."""
        return torch.zeros(self.n_weights)

    def coefficients(self, weights: Tensor) -> Tensor:
        """Return (P, L, N) coefficients of weights (P, L * N); zero where a module lacks the layer."""
        return weights.reshape(-1, *self.holders.shape) * self.holders

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, L * N), differentiable in the weights."""
        return sum_adapters(self.stack, self.coefficients(weights))

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (L * N,), by concatenating the factors."""
        return concatenate_modules(self.stack, self.by_layer(weights))

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return (N,): the mean of each module's coefficients over the layers that it changes."""
        summed = self.by_layer(weights).sum(0) / self.holders.sum(0)
        return tuple(summed.tolist())

    def by_layer(self, weights: Sequence[float]) -> Tensor:
        """Return the (L, N) coefficients of weights (L * N,), fp64."""
        return self.coefficients(torch.tensor([list(weights)], dtype=torch.float64))[0]


class LayerwiseSoftmax(LayerwiseWeights):
    """LoRA Soups CAT: in each layer the coefficients are a softmax over the modules that change it.

    The coefficients of a layer are positive and add up to one, so no module gets zero or less. The L * N
    weights are the logits of the softmax. All zero is the uniform average, from which the published
    training starts too.

    Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025. Its own merge() ignores the trained
    weights; here they are in the adapter that is written.
    """

    name = "cat"
    bound = LOGIT_BOUND

    def coefficients(self, weights: Tensor) -> Tensor:
        """Return (P, L, N) coefficients of logits (P, L * N); each row of a layer sums to 1.

        A layer that none of these modules changes has zeros.
        """
        logits = weights.reshape(-1, *self.holders.shape)
        # -inf would give NaN in a layer that none of these modules changes
        masked = logits.masked_fill(~self.holders, torch.finfo(logits.dtype).min)
        return masked.softmax(-1) * self.holders


class Auto(LayerwiseWeights):
    """Weights by layer that `search_auto` finds; the arithmetic is that of LayerwiseWeights."""

    name = "auto"

    def spread(self, weights: Tensor) -> Tensor:
        """Return (P, L * N) from one weight per module (P, N): the same weight in every layer."""
        return weights.unsqueeze(1).expand(-1, *self.holders.shape).flatten(1)
