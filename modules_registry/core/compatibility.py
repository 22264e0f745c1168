"""May these modules be composed, and if not: why not, module by module."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A base model of the library, at its pinned revision."""

    name: str
    revision: str


@dataclass(frozen=True)
class ModuleFacts:
    """What composing needs to know of a module that has passed the gate."""

    name: str
    base: str
    revision: str | None  # of the base, as its config names it
    rank: int
    scaling: float  # what multiplies B @ A
    targets: tuple[str, ...]
    has_own_ranks: bool = False  # some layers have a rank or a scaling of their own


@dataclass(frozen=True)
class Reason:
    """Why a module cannot take part."""

    code: str
    message: str


def reason_not_composable(module: ModuleFacts, library: Mapping[str, Base]) -> Reason | None:
    """Why a module can only be downloaded here: its base, by name, is not among the library's."""
    base = library.get(module.base)
    if base is None:
        sentence = f"Its base model {module.base} is not in this site's library."
        return Reason("base_not_in_library", sentence)
    return next(iter(_reasons_of_base(module, base)), None)


def reasons_against(
    candidates: Sequence[ModuleFacts], base: Base, *, factor_by_factor: bool
) -> dict[str, tuple[Reason, ...]]:
    """Map each module's name to what speaks against it; an empty tuple means that it fits.

    Args:
        candidates: the modules somebody wants to compose.
        base: the base model they would be composed for.
        factor_by_factor: the method adds A to A and B to B (the product of sums), so all must agree in rank,
            scaling and targets. An exact sum of deltas takes any mixture.
    """
    of_base = {module.name: _reasons_of_base(module, base) for module in candidates}
    if not factor_by_factor:
        return of_base
    fitting = [module for module in candidates if not of_base[module.name] and not module.has_own_ranks]
    shape = most_common_shape(Counter(map(shape_of, fitting)))
    return {module.name: of_base[module.name] or reasons_of_shape(module, shape) for module in candidates}


def reasons_between(
    module: ModuleFacts, other: ModuleFacts, base: Base, *, factor_by_factor: bool
) -> tuple[Reason, ...]:
    """What speaks against composing a module with one other module; empty: the two fit together.

    Args:
        module: whose reasons are asked for.
        other: fits the base.
        base: of the other module.
        factor_by_factor: as in `reasons_against`.
    """
    of_base = _reasons_of_base(module, base)
    if of_base or not factor_by_factor:
        return of_base
    if other.has_own_ranks:
        sentence = f"Some layers of {other.name} have a rank or an alpha of their own."
        return (Reason("own_ranks", sentence),)
    return reasons_of_shape(module, shape_of(other), Named(other.name, "has", "adapts"))


def _reasons_of_base(module: ModuleFacts, base: Base) -> tuple[Reason, ...]:
    if module.base != base.name:
        return (Reason("other_base", f"It was trained on {module.base}, not on {base.name}."),)
    if module.revision not in (None, "main", base.revision):
        pinned = (
            f"It was trained on revision {module.revision} of {base.name}; the library has {base.revision}."
        )
        return (Reason("other_revision", pinned),)
    return ()


# What the product of sums needs to be equal: rank, scaling, targets.
Shape = tuple[int, float, tuple[str, ...]]


def shape_of(module: ModuleFacts) -> Shape:
    return module.rank, module.scaling, tuple(sorted(module.targets))


def most_common_shape(counts: Mapping[Shape, int]) -> Shape | None:
    """The shape that lets most modules take part; the earlier of two equally common ones."""
    return max(counts, key=counts.__getitem__, default=None)


@dataclass(frozen=True)
class Named:
    """What a module is held against, as the subject of a sentence."""

    name: str
    has: str
    adapts: str


THE_OTHERS = Named("the others", "have", "adapt")


def reasons_of_shape(
    module: ModuleFacts, shape: Shape | None, against: Named = THE_OTHERS
) -> tuple[Reason, ...]:
    """What speaks against adding a module factor by factor to others of this shape; None: there are none."""
    if module.has_own_ranks:
        return (Reason("own_ranks", "Some of its layers have a rank or an alpha of their own."),)
    if shape is None:
        return ()
    rank, scaling, targets = shape
    has = f"{against.name} {against.has}"
    reasons = []
    if module.rank != rank:
        reasons.append(Reason("other_rank", f"Its rank is {module.rank}; {has} {rank}."))
    if module.scaling != scaling:
        sentence = f"Its scaling, alpha / r, is {module.scaling:g}; {has} {scaling:g}."
        reasons.append(Reason("other_scaling", sentence))
    if tuple(sorted(module.targets)) != targets:
        theirs = f"{against.name} {against.adapts} {', '.join(targets)}"
        sentence = f"It adapts {', '.join(module.targets)}; {theirs}."
        reasons.append(Reason("other_targets", sentence))
    return tuple(reasons)
