"""What a method is, and the three forms in which it adds deltas to a layer.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

P is the number of candidates, N of modules, L of layers. A method turns P weight vectors into P
candidates at once (`adapters`), and one weight vector into the factors of a plain adapter (`lora`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from composer.core.modules.module_stack import FactorPair, ModuleStack
from composer.core.spec.choices import WEIGHT_BOUND
from composer.core.spec.errors import MismatchedModulesError


class LowRank(Protocol):
    """What P candidates add to the output of one layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the P deltas' products with x: (P, rows, d_in) -> (P, rows, d_out), in the type of x."""


Adapters = Mapping[str, LowRank]  # by the path of the layer


@dataclass(frozen=True)
class OwnFactors:
    """Each candidate has its own factors; alpha / r is already in B.

    Attributes:
        A: (P, r, d_in).
        B: (P, d_out, r).
    """

    A: Tensor
    B: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return Bₚ Aₚ x for each row: (P, rows, d_in) -> (P, rows, d_out)."""
        return (x @ self.A.to(x.dtype).mT) @ self.B.to(x.dtype).mT


@dataclass(frozen=True)
class SharedFactors:
    """All candidates share A and B and differ in R coefficients between them.

    Attributes:
        factors: A (R, d_in) and B (d_out, R).
        between: (P, 1, R) coefficients, the scaling included.
    """

    factors: FactorPair
    between: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return B diag(betweenₚ) A x for each row: (P, rows, d_in) -> (P, rows, d_out)."""
        A, B = self.factors.in_type(x.dtype)
        return ((x @ A.T) * self.between).to(x.dtype) @ B.T


@dataclass(frozen=True)
class WholeDelta:
    """Each candidate has its own delta as a whole matrix, of any rank.

    Attributes:
        delta: ΔW (P, d_out, d_in), the scaling included.
    """

    delta: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return ΔWₚ x for each row: (P, rows, d_in) -> (P, rows, d_out)."""
        return x @ self.delta.to(x.dtype).mT


@dataclass(frozen=True)
class PlainLora:
    """The factors of one plain adapter, as they are written to its files.

    Attributes:
        factors: A (rank, d_in) and B (d_out, rank), fp32, by the path of the layer.
        rank: r, the same in every layer.
        alpha: every layer adds (alpha / rank) * B @ A.
        energy_kept: the share of the deltas' squared Frobenius norm, summed over the layers, that is left
            after cutting to `rank`, 0 to 1; 1 if nothing was cut.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    alpha: float
    energy_kept: float = 1.0

    @property
    def is_zero(self) -> bool:
        """Return whether every delta is zero, so that the adapter changes nothing."""
        return not any(bool((up @ down).any()) for down, up in self.factors.values())


class Method(Protocol):
    """A way to make one adapter from N modules and a weight vector that a search changes.

    Most methods have one weight per module. A method with weights by layer has L * N weights, and its
    weights need not be the coefficients themselves.

    Attributes:
        name: a name in choices.METHODS.
        stack: the N modules.
        bound: every weight stays within ±bound.
    """

    name: str
    stack: ModuleStack
    bound: float

    @property
    def n_weights(self) -> int:
        """Return the length of the weight vector."""

    @property
    def start(self) -> Tensor:
        """Return the weights (n_weights,) from which a search starts."""

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, n_weights), differentiable in the weights."""

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of one weight vector (n_weights,)."""

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return (N,) numbers for the reader: what the weight vector (n_weights,) gives each module."""

    def by_layer(self, weights: Sequence[float]) -> Tensor | None:
        """Return (L, N) coefficients in the order of `stack.layers`, or None where all layers share them."""


class OneWeightPerModule:
    """The common part of the methods whose N weights are the modules' own coefficients."""

    stack: ModuleStack
    bound = WEIGHT_BOUND

    @property
    def n_weights(self) -> int:
        """Return N, the number of modules."""
        return len(self.stack)

    @property
    def start(self) -> Tensor:
        """Return (N,) zeros: the base model without a delta."""
        return torch.zeros(len(self.stack))

    def by_module(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the weights (N,) themselves."""
        return tuple(weights)

    def by_layer(self, _weights: Sequence[float]) -> None:
        return None


def single_modules(stack: ModuleStack, indices: Sequence[int]) -> Adapters:
    """Return one candidate per index, each one module alone at weight 1.

    P = len(indices); the factors are A (P, rank, d_in) and B (P, d_out, rank) in each layer.
    """
    chosen = list(indices)
    scalings = stack.scalings[chosen].view(-1, 1, 1)
    return {path: OwnFactors(A[chosen], scalings * B[chosen]) for path, A, B in stack.factors()}


def require_equal_shapes(stack: ModuleStack, method: str, *, scalings: bool = True) -> None:
    """Refuse modules whose factors cannot be summed.

    The released LoraHub compares only the shapes, and uses the alpha / r of the last module for all.

    Args:
        stack: the modules.
        method: the name of the method, for the message.
        scalings: whether alpha / r has to agree too.

    Raises:
        MismatchedModulesError: the rank, the target modules or alpha / r differ; names the first module
            that differs from module 0.
    """
    first = stack.names[0]
    for i, name in enumerate(stack.names):
        if stack.own_ranks[i]:
            difference = "has layers with a rank or an alpha of their own"
        elif stack.ranks[i] != stack.ranks[0]:
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
    """Return the one candidate that is this adapter: A (1, rank, d_in), B (1, d_out, rank) in each layer."""
    scaling = lora.alpha / lora.rank
    return {
        path: OwnFactors(A.unsqueeze(0), scaling * B.unsqueeze(0)) for path, (A, B) in lora.factors.items()
    }
