"""Merging factor by factor, as peft's add_weighted_adapter does.

A rule merges all A with each other and all B with each other:
ΔW = (Σ √|wᵢsᵢ| B'ᵢ)(Σ sgn(wⱼ) √|wⱼsⱼ| A'ⱼ), where A' and B' are the factors after the rule has pruned
them and elected their signs. The sign of the weight is on A, so one module alone at weight w gives w
times its (pruned) delta. Cross terms remain, as in LoraHub's product of sums.

The sign of a single factor says little about the delta. These methods are offered because they are
known from peft.
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
DARE_DENSITY = 0.5  # the share of values kept, at random
MAGNITUDE_DENSITY = 0.5

Rule = Callable[[Tensor, torch.Generator], Tensor]  # (N, …) of one factor of N modules -> the same shape


class Factorwise(OneWeightPerModule):
    """A rule of RULES applied to a stack of modules with equal ranks and target modules; N weights.

    The factors are pruned once, when the method is made: no rule reads the weights.
    """

    def __init__(self, name: str, stack: ModuleStack, *, seed: int) -> None:
        """Prune the factors by the rule.

        Args:
            name: a key of RULES.
            stack: N modules.
            seed: of the values that DARE drops.

        Raises:
            MismatchedModulesError: the modules differ in rank or target modules.
        """
        require_equal_shapes(stack, name, scalings=False)
        self.name = name
        generator = torch.Generator().manual_seed(seed)
        prune = RULES[name]
        prepared = [(prune(A, generator), prune(B, generator).mT) for _, A, B in stack.factors()]
        self.stack = replace(stack, blocks=tuple((A, B_T.contiguous()) for A, B_T in prepared))

    def adapters(self, weights: Tensor) -> Adapters:
        """Return the P candidates of weights (P, N): factors A (P, rank, d_in) and B (P, d_out, rank)."""
        scaled = weights.to(self.stack.scalings.device) * self.stack.scalings
        on_B = scaled.abs().sqrt()  # (P, N)
        on_A = scaled.sign() * on_B
        return {
            path: OwnFactors(torch.einsum("pn,nri->pri", on_A, A), torch.einsum("pn,nor->por", on_B, B))
            for path, A, B in self.stack.factors()
        }

    def lora(self, weights: Sequence[float]) -> PlainLora:
        """Return the adapter of weights (N,), with the modules' own rank.

        Its alpha is r, because the modules' scalings are already in the factors.
        """
        adapters = self.adapters(torch.tensor([weights], dtype=torch.float32))
        factors = {
            path: (low.A[0], low.B[0]) for path, low in adapters.items() if isinstance(low, OwnFactors)
        }
        return PlainLora(factors, rank=self.stack.rank, alpha=float(self.stack.rank))


def keep_all(values: Tensor, _generator: torch.Generator) -> Tensor:
    """Return the values (N, …) as they are: peft's "linear" prunes nothing."""
    return values


def keep_largest(values: Tensor, _generator: torch.Generator | None = None, *, density: float) -> Tensor:
    """Keep the share `density` of each module's values that are largest in size; set the others to zero.

    The number of kept values is rounded down.

    Args:
        values: (N, …) of one factor, or of one delta, of N modules.
        density: from 0 to 1.

    Source: peft, magnitude_prune; the trim step of TIES-Merging, arXiv:2306.01708.
    """
    rows = values.flatten(1)
    n_kept = int(density * rows.shape[1])
    kept = torch.zeros_like(rows).scatter_(1, rows.abs().topk(n_kept, dim=1).indices, 1.0)
    return (rows * kept).view_as(values)


def drop_at_random(values: Tensor, generator: torch.Generator, *, density: float) -> Tensor:
    """Keep each of the values (N, …) with the probability `density`, divided by it; set the others to zero.

    Source: Yu et al., DARE, arXiv:2311.03099.
    """
    kept = torch.rand(values.shape, generator=generator).to(values.device) < density
    return values * kept / density


def agreement(values: Tensor) -> Tensor:
    """Return (N, …) booleans: whether a value has the sign that the sum over the N modules elects.

    The elected sign is that of the sum of the values, + for a sum of zero. A value of zero never agrees.

    Source: Yadav et al., TIES-Merging, arXiv:2306.01708, the elect step.
    """
    elected = torch.where(values.sum(0) >= 0, 1.0, -1.0)
    return values.sign() == elected


def keep_agreeing(values: Tensor) -> Tensor:
    """Return (N, …): the agreeing values, divided by their number over the N modules; the others are zero.

    Source: Yadav et al., TIES-Merging, arXiv:2306.01708, the disjoint mean.
    """
    agrees = agreement(values)
    return values * agrees / agrees.sum(0).clamp(min=1)


def ties(values: Tensor, generator: torch.Generator) -> Tensor:
    """Trim the values (N, …) to the density TIES_DENSITY, then elect signs."""
    return keep_agreeing(keep_largest(values, generator, density=TIES_DENSITY))


def dare_ties(values: Tensor, generator: torch.Generator) -> Tensor:
    """Drop values (N, …) at random to the density DARE_DENSITY, then elect signs."""
    return keep_agreeing(drop_at_random(values, generator, density=DARE_DENSITY))


RULES: Mapping[str, Rule] = {
    "linear": keep_all,
    "magnitude": partial(keep_largest, density=MAGNITUDE_DENSITY),
    "ties": ties,
    "dare_linear": partial(drop_at_random, density=DARE_DENSITY),
    "dare_ties": dare_ties,
}
