"""How several LoRA modules become one.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

A method turns P vectors of weights into P candidates at once (`adapters`) and one
vector into the factors of a plain adapter (`lora`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from composer.core.module_stack import ModuleStack
from composer.core.spec.choices import WEIGHT_BOUND
from composer.core.spec.errors import MismatchedModulesError


class LowRank(Protocol):
    """What P candidates add to one layer's output."""

    def __call__(self, x: Tensor) -> Tensor:
        """x (P, tokens, d_in) -> (P, tokens, d_out)."""


Adapters = Mapping[str, LowRank]  # by the path of the layer


@dataclass(frozen=True)
class OwnFactors:
    """Each candidate has its own A (P, r, d_in) and B (P, d_out, r); alpha / r is in B."""

    A: Tensor
    B: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x @ self.A.mT) @ self.B.mT


@dataclass(frozen=True)
class SharedFactors:
    """All candidates share A (R, d_in) and B (d_out, R) and differ in R factors between them, (P, 1, R)."""

    A: Tensor
    B: Tensor
    between: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return ((x @ self.A.T) * self.between) @ self.B.T


@dataclass(frozen=True)
class WholeDelta:
    """Each candidate has its own ΔW (P, d_out, d_in), of whatever rank."""

    delta: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.delta.mT


@dataclass(frozen=True)
class PlainLora:
    """One adapter: (A, B) by layer path, one rank, one alpha.

    `energy_kept` is the share of the squared size of its deltas that cutting it to its rank left;
    1 if nothing was cut.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    alpha: float
    energy_kept: float = 1.0


class Method(Protocol):
    """A way to make one adapter from N modules, steered by a vector of numbers that a search moves.

    Most methods have one number for each module; a method that weighs layer by layer has N for
    each of L layers, and its numbers need not be the coefficients themselves.
    """

    name: str
    stack: ModuleStack
    bound: float  # every number of a weight vector stays within ±bound

    @property
    def n_weights(self) -> int:
        """How many numbers a search moves."""

    @property
    def start(self) -> Tensor:
        """(n_weights,) where a search begins."""

    def adapters(self, weights: Tensor) -> Adapters:
        """The P candidates of weights (P, n_weights), differentiable in the weights."""

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """The adapter of one weight vector (n_weights,)."""

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        """(N,) what one weight vector gives each module, to be told to people."""

    def by_layer(self, weights: Sequence[float]) -> Tensor | None:
        """(L, N) coefficients in the order of `stack.layers`; None where all layers share them."""


class OneWeightPerModule:
    """What the methods have in common whose weights are the modules' own coefficients."""

    stack: ModuleStack
    bound = WEIGHT_BOUND

    @property
    def n_weights(self) -> int:
        return len(self.stack)

    @property
    def start(self) -> Tensor:
        """Nothing is added."""
        return torch.zeros(len(self.stack))

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        return tuple(weights)

    def by_layer(self, _weights: Sequence[float]) -> None:
        return None


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
        return concatenated(self.stack, coefficients.expand(len(self.stack.layers), -1))


def sum_adapters(stack: ModuleStack, coefficients: Tensor) -> Adapters:
    """P exact sums Σ cᵢ sᵢ BᵢAᵢ with coefficients (P, L, N), differentiable in them."""
    on_device = coefficients.to(stack.scalings.device)
    between = (on_device * stack.scalings).repeat_interleave(stack.rank, dim=-1)  # (P, L, N * rank)
    return {
        path: SharedFactors(A, B, between[:, layer : layer + 1])
        for layer, (path, A, B) in enumerate(stack.joined())
    }


def concatenated(stack: ModuleStack, coefficients: Tensor) -> PlainLora:
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


class ProductOfSums(OneWeightPerModule):
    """ΔW = s (Σ wᵢBᵢ)(Σ wⱼAⱼ): factor summed with factor, then multiplied.

    It holds the cross terms wᵢwⱼBᵢAⱼ and is quadratic in the weights: one module at
    w = 0.5 keeps a quarter of its delta, w and -w are the same adapter, and w = 0 is a
    stationary point, where no gradient starts. peft's combination_type="linear" differs:
    it puts √|w| on each factor.

    Source: Huang et al., LoraHub, arXiv:2307.13269, eq. 1.
    """

    name = "lorahub"

    def __init__(self, stack: ModuleStack) -> None:
        require_equal_shapes(stack, self.name)
        self.stack = stack
        self.scaling = float(stack.scalings[0])

    def adapters(self, weights: Tensor) -> Adapters:
        mixed = self.stack.mixed(weights.to(self.stack.scalings.device))
        return {path: OwnFactors(A, self.scaling * B) for path, A, B in mixed}

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """A = Σ wᵢAᵢ, B = Σ wᵢBᵢ, with the modules' own rank and alpha."""
        w = torch.tensor([list(weights)], dtype=torch.float32, device=self.stack.scalings.device)
        factors = {path: (A[0], B[0]) for path, A, B in self.stack.mixed(w)}
        return PlainLora(factors, rank=self.stack.rank, alpha=self.scaling * self.stack.rank)


def single_modules(stack: ModuleStack, indices: Sequence[int]) -> Adapters:
    """One candidate per index: that module alone, at weight 1."""
    chosen = list(indices)
    scalings = stack.scalings[chosen].view(-1, 1, 1)
    return {path: OwnFactors(A[chosen], scalings * B[chosen]) for path, A, B in stack.factors()}


def require_equal_shapes(stack: ModuleStack, method: str, *, scalings: bool = True) -> None:
    """Refuse modules that a sum of factors would mix up.

    The released LoraHub compares shapes only, and uses the alpha / r of the last module for all.

    Args:
        scalings: whether alpha / r has to agree too.

    Raises:
        MismatchedModulesError: ranks, targets or alpha / r differ; names the first that does.
    """
    first = stack.names[0]
    for i, name in enumerate(stack.names):
        if stack.ranks[i] != stack.ranks[0]:
            difference = f"has rank {stack.ranks[i]}, {first} has rank {stack.ranks[0]}"
        elif stack.targets[i] != stack.targets[0]:
            difference = f"changes other layers than {first}"
        elif scalings and float(stack.scalings[i]) != float(stack.scalings[0]):
            difference = (
                f"has alpha / r = {float(stack.scalings[i]):g}, {first} has {float(stack.scalings[0]):g}"
            )
        else:
            continue
        raise MismatchedModulesError(
            f"{method} sums factors, so all modules must agree, but {name} {difference}. "
            "Leave it out, or use a method that sums whole updates, such as exact."
        )


def as_adapters(lora: PlainLora) -> Adapters:
    """One candidate: this adapter."""
    scaling = lora.alpha / lora.rank
    return {
        path: OwnFactors(A.unsqueeze(0), scaling * B.unsqueeze(0)) for path, (A, B) in lora.factors.items()
    }
