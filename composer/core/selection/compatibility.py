"""Which modules to compose: those that fit, and out of these the few that promise most."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from composer.core.modules.module_stack import Layer, LoraModule
from composer.core.spec.errors import MismatchedModulesError, NoModulesError
from composer.core.spec.selection import Selector

RANK_SOFTENER = 60  # as in the paper: a first place counts little more than a second


def select_modules(
    selectors: Sequence[Selector],
    n_modules: int,
    *,
    seed: int,
    alone: Callable[[Sequence[int], int | None], Sequence[float]],
    near: Callable[[Sequence[int]], Sequence[float]],
) -> tuple[int, ...]:
    """The chosen indices, in their original order.

    Args:
        alone: the few-shot loss of these modules, each used alone, of which so many are wanted; lower is
            better.
        near: how near these modules are to the task; higher is better. Both are asked only for
            the modules that are left, and only when a selector needs it.
    """
    kept = list(range(n_modules))
    for selector in selectors:
        if selector.name == "random":
            drawn = random.Random(seed).sample(kept, min(selector.count or 0, len(kept)))
            kept = sorted(drawn)
        elif selector.name == "screen":
            kept = lowest_indices(kept, alone(kept, selector.count), selector.count)
        elif selector.name == "near":
            kept = lowest_indices(kept, [-similarity for similarity in near(kept)], selector.count)
    return tuple(kept)


def lowest_indices(kept: Sequence[int], values: Sequence[float], count: int | None) -> list[int]:
    """The `count` of these indices with the lowest values, in their original order."""
    ordered = sorted(zip(values, kept, strict=True))
    return sorted(i for _, i in ordered[:count])


def joined_ranks(columns: Sequence[Sequence[float]]) -> list[float]:
    """One likeness out of several: the sum of 1 / (60 + rank), a column's highest value having rank 1.

    Ranks of different scales can be added where the values cannot. Equal values share a rank.

    Source: Cormack, Clarke and Büttcher, Reciprocal rank fusion, SIGIR 2009.
    """
    total = [0.0] * len(columns[0])
    for column in columns:
        for i, value in enumerate(column):
            rank = 1 + sum(other > value for other in column)
            total[i] += 1 / (RANK_SOFTENER + rank)
    return total


# --- what fits together -------------------------------------------------------


@dataclass(frozen=True)
class ExcludedModule:
    """A module that cannot take part, and why, as the end of a sentence about it."""

    name: str
    reason: str


def select_compatible(
    modules: Sequence[LoraModule], layers: Mapping[str, Layer], *, equal_shapes: bool, equal_scalings: bool
) -> tuple[list[int], list[ExcludedModule]]:
    """The indices of the modules that can be composed on this base, and the others with their reasons.

    Where a method sums factors, the modules must agree in rank and targets (and alpha / r): then the
    largest group that does is kept, the first of equals.

    Args:
        layers: the base's own linear layers, by path.

    Raises:
        NoModulesError: there is no module at all.
        MismatchedModulesError: none is left; the message is the first one's reason.
    """
    if not modules:
        raise NoModulesError
    reasons = [incompatibility_reason(module, layers) for module in modules]
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    if equal_shapes and kept:
        shapes = {i: shape(modules[i], with_scaling=equal_scalings) for i in kept}
        ((common, _),) = Counter(shapes.values()).most_common(1)
        for i in kept:
            if shapes[i] != common:
                reasons[i] = shape_difference(shapes[i], common)
        kept = [i for i in kept if reasons[i] is None]
    left_out = [ExcludedModule(m.name, reason) for m, reason in zip(modules, reasons, strict=True) if reason]
    if not kept:
        others = f" None of the other {len(modules) - 1} modules fits either." if len(modules) > 1 else ""
        raise MismatchedModulesError(f"{left_out[0].name} {left_out[0].reason}.{others}")
    return kept, left_out


def incompatibility_reason(module: LoraModule, layers: Mapping[str, Layer]) -> str | None:
    """Why a module does not fit this base; None if it does."""
    for path, (A, B) in module.factors.items():
        own = layers.get(path)
        if own is None:
            return f"changes {path}, which this base model does not have"
        if (own.d_out, own.d_in) != (B.shape[0], A.shape[1]):
            return (
                f"was made for another base model: its {path} is {B.shape[0]} x {A.shape[1]}, "
                f"here it is {own.d_out} x {own.d_in}"
            )
    return None


ModuleShape = tuple[int, frozenset[str], float | None]  # rank, targets, alpha / r where it has to agree


def shape(module: LoraModule, *, with_scaling: bool) -> ModuleShape:
    return module.rank, frozenset(module.factors), module.scaling if with_scaling else None


def shape_difference(own: ModuleShape, common: ModuleShape) -> str:
    """What sets a module apart from those it would be summed with."""
    if own[0] != common[0]:
        return f"has rank {own[0]}, most others here {common[0]}; the method exact takes any rank"
    if own[1] != common[1]:
        return "changes other layers than most others here; the method exact takes any"
    return f"has alpha / r = {own[2]:g}, most others here {common[2]:g}; the method exact takes any"
