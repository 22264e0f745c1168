"""Which modules can be composed on a base model, and which of them the selectors choose.

`select_compatible` is called once for all modules of the job, and `select_modules` for each set of examples.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from composer.core.modules.module_stack import Layer, LoraModule
from composer.core.spec.errors import MismatchedModulesError, ModuleUnfitError, NoModulesError
from composer.core.spec.selection import Selector

RANK_SOFTENER = 60  # as in the paper; with it rank 1 counts little more than rank 2


def select_modules(
    selectors: Sequence[Selector],
    candidates: Sequence[int],
    *,
    seed: int,
    alone: Callable[[Sequence[int], int | None], Sequence[float]],
    near: Callable[[Sequence[int]], Sequence[float]],
) -> tuple[int, ...]:
    """Apply the selectors one after the other.

    Both callables get only the modules that are left, and only if a selector needs them.

    Args:
        selectors: in the order of application.
        candidates: the indices to choose from, in ascending order.
        seed: of the selector random.
        alone: the few-shot loss of each of these modules alone, in nats per label token, if so many of them
            are wanted (None: all); lower is better.
        near: the similarity of each of these modules to the task, in any unit; higher is better.

    Returns:
        The chosen indices in ascending order.
    """
    kept = list(candidates)
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
    """Return the `count` of these indices with the lowest values, in ascending order; all if None."""
    ordered = sorted(zip(values, kept, strict=True))
    return sorted(i for _, i in ordered[:count])


def joined_ranks(columns: Sequence[Sequence[float]]) -> list[float]:
    """Return one similarity per module from several: the sum of 1 / (60 + rank), 1 for the highest value.

    Ranks can be added where the values have different scales. Equal values share a rank.

    Args:
        columns: similarities of the same N modules, at least one column; higher is nearer.

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
    """A module that cannot be composed, and the reason.

    Attributes:
        name: of the module.
        reason: the end of a sentence that begins with the name.
    """

    name: str
    reason: str


def select_compatible(
    modules: Sequence[LoraModule | ModuleUnfitError],
    layers: Mapping[str, Layer],
    *,
    equal_shapes: bool,
    equal_scalings: bool,
) -> tuple[list[int], list[ExcludedModule]]:
    """Return the indices of the modules that can be composed on this base model, and the others with reasons.

    A method that sums factors needs equal ranks and target modules, and LoraHub equal alpha / r too. Then
    the largest group that agrees is kept, the first of equally large ones.

    Args:
        modules: of the job; for one that cannot be read or composed, why not.
        layers: the base model's own linear layers, by path.
        equal_shapes: whether the method needs equal ranks and target modules.
        equal_scalings: whether it needs equal alpha / r too; read only with `equal_shapes`.

    Raises:
        NoModulesError: there is no module.
        ModuleUnfitError: there is one module, and it cannot be read or composed.
        MismatchedModulesError: no module is compatible; the message is the reason of the first one.
    """
    if not modules:
        raise NoModulesError
    if isinstance(modules[0], ModuleUnfitError) and len(modules) == 1:
        raise modules[0]
    reasons = [incompatibility_reason(module, layers) for module in modules]
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    if equal_shapes:
        read = {i: module for i in kept if isinstance(module := modules[i], LoraModule)}
        kept = keep_alike(read, reasons, with_scaling=equal_scalings)
    left_out = [ExcludedModule(m.name, reason) for m, reason in zip(modules, reasons, strict=True) if reason]
    if not kept:
        others = f" None of the other {len(modules) - 1} modules fits either." if len(modules) > 1 else ""
        raise MismatchedModulesError(f"{left_out[0].name} {left_out[0].reason}.{others}")
    return kept, left_out


def keep_alike(
    modules: Mapping[int, LoraModule], reasons: list[str | None], *, with_scaling: bool
) -> list[int]:
    """Return those of the indices that form the largest group; write the reasons of the others."""
    shapes = {
        i: shape(module, with_scaling=with_scaling)
        for i, module in modules.items()
        if not module.has_own_ranks
    }
    common = Counter(shapes.values()).most_common(1)
    for i in modules:
        if i not in shapes:
            reasons[i] = "has layers with a rank or an alpha of their own; the method exact takes them"
        elif shapes[i] != common[0][0]:
            reasons[i] = shape_difference(shapes[i], common[0][0])
    return [i for i in modules if reasons[i] is None]


def incompatibility_reason(module: LoraModule | ModuleUnfitError, layers: Mapping[str, Layer]) -> str | None:
    """Return why a module does not fit this base model, as the end of a sentence; None if it fits."""
    if isinstance(module, ModuleUnfitError):
        return module.reason
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
    """Return (rank, target modules, alpha / r or None): what modules must share to sum their factors."""
    return module.rank, frozenset(module.factors), module.scaling if with_scaling else None


def shape_difference(own: ModuleShape, common: ModuleShape) -> str:
    """Return how a module differs from the largest group, as the end of a sentence."""
    if own[0] != common[0]:
        return f"has rank {own[0]}, most others here {common[0]}; the method exact takes any rank"
    if own[1] != common[1]:
        return "changes other layers than most others here; the method exact takes any"
    return f"has alpha / r = {own[2]:g}, most others here {common[2]:g}; the method exact takes any"
