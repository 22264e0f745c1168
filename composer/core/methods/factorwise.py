"""Merging factor by factor, as peft's add_weighted_adapter does it.

All A are merged with each other and all B with each other, each by the same rule:
ΔW = (Σ √|wᵢsᵢ| B'ᵢ)(Σ sgn(wⱼ) √|wⱼsⱼ| A'ⱼ), where A' and B' are the factors after the rule's
pruning and election of signs. The sign stands on A, so that a module alone at weight w gives w
times its delta. Cross terms remain, as in a product of sums.

An election of signs among factors of different A says little about their deltas: these methods
are here because people know them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

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

TIES_DENSITY = 0.2  # the share of values kept, as in the paper
DARE_DENSITY = 0.5  # kept at random, the rest dropped
MAGNITUDE_DENSITY = 0.5

Rule = Callable[[Tensor, torch.Generator], Tensor]  # (N, …) of one factor in N modules -> the same shape


class Factorwise(OneWeightPerModule):
    """One of the rules of RULES over a stack of modules of equal ranks and targets."""

    def __init__(self, name: str, stack: ModuleStack, *, seed: int) -> None:
        require_equal_shapes(stack, name, scalings=False)
        self.name = name
        generator = torch.Generator().manual_seed(seed)
        prune = RULES[name]
        prepared = [(prune(A, generator), prune(B, generator).mT) for _, A, B in stack.factors()]
        self.stack = replace(stack, blocks=tuple((A, B_T.contiguous()) for A, B_T in prepared))

    def adapters(self, weights: Tensor) -> Adapters:
        scaled = weights.to(self.stack.scalings.device) * self.stack.scalings
        on_B = scaled.abs().sqrt()  # (P, N)
        on_A = scaled.sign() * on_B
        return {
            path: OwnFactors(torch.einsum("pn,nri->pri", on_A, A), torch.einsum("pn,nor->por", on_B, B))
            for path, A, B in self.stack.factors()
        }

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """The modules' own rank, and alpha = r: every scaling is in the factors."""
        adapters = self.adapters(torch.tensor([weights], dtype=torch.float32))
        factors = {
            path: (low.A[0], low.B[0]) for path, low in adapters.items() if isinstance(low, OwnFactors)
        }
        return PlainLora(factors, rank=self.stack.rank, alpha=float(self.stack.rank))


def keep_all(values: Tensor, _generator: torch.Generator) -> Tensor:
    """peft's "linear": nothing is pruned."""
    return values


def keep_largest(values: Tensor, _generator: torch.Generator | None = None, *, density: float) -> Tensor:
    """Each module keeps the `density` share of its values that are largest in size; the rest is zero."""
    rows = values.flatten(1)
    n_kept = int(density * rows.shape[1])
    kept = torch.zeros_like(rows).scatter_(1, rows.abs().topk(n_kept, dim=1).indices, 1.0)
    return (rows * kept).view_as(values)


def drop_at_random(values: Tensor, generator: torch.Generator, *, density: float) -> Tensor:
    """Each value survives with probability `density` and is then divided by it.

    Source: Yu et al., DARE, arXiv:2311.03099.
    """
    kept = torch.rand(values.shape, generator=generator).to(values.device) < density
    return values * kept / density


def agreement(values: Tensor) -> Tensor:
    """(N, …) booleans: a sign is elected for each value by the sum over modules; who has it agrees.

    Source: Yadav et al., TIES-Merging, arXiv:2306.01708.
    """
    elected = torch.where(values.sum(0) >= 0, 1.0, -1.0)
    return values.sign() == elected


def agreeing(values: Tensor) -> Tensor:
    """Whoever agrees counts, averaged over those."""
    agrees = agreement(values)
    return values * agrees / agrees.sum(0).clamp(min=1)


def ties(values: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the largest, elect signs."""
    return agreeing(keep_largest(values, generator, density=TIES_DENSITY))


def dare_ties(values: Tensor, generator: torch.Generator) -> Tensor:
    """Drop at random, elect signs."""
    return agreeing(drop_at_random(values, generator, density=DARE_DENSITY))


RULES: Mapping[str, Rule] = {
    "linear": keep_all,
    "magnitude": partial(keep_largest, density=MAGNITUDE_DENSITY),
    "ties": ties,
    "dare_linear": partial(drop_at_random, density=DARE_DENSITY),
    "dare_ties": dare_ties,
}
