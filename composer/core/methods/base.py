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

from composer.core.modules.module_stack import ModuleStack
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
