"""Modules that were made from some of the task's own examples: they would win, and tell nothing."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from composer import selectors
from composer.core.spec.examples import Example, is_storable
from composer.matching.compatibility import FittingModule, FittingModules, find_fitting, fitting_module
from composer.models import Composition
from composer.models import Example as ExampleRow
from composer.task.demo_tasks import ready_made_pairs
from modules_registry.lineage import with_descendants
from modules_registry.models import BaseModel


def made_from(examples: Collection[Example], owner: object) -> set[int]:
    """The modules (by their keys) composed from any of these examples, and what was made from those in turn.

    Of other people's compositions only ready-made examples count: nobody shall find out by guessing
    what somebody else composed from.
    """
    wanted = {pair for pair in examples if is_storable(pair.input)}
    rows = ExampleRow.objects.filter(
        role=ExampleRow.Role.SHOT,
        composition__published_as__isnull=False,
        input__in={pair.input for pair in wanted},
    ).values_list("input", "output", "composition__owner", "composition__published_as__module")
    owner_pk = getattr(owner, "pk", None)
    known = [(Example(given, output), whose == owner_pk, module) for given, output, whose, module in rows]
    ready_made = ready_made_pairs() if known else frozenset()
    return with_descendants(
        {module for pair, is_own, module in known if pair in wanted and (is_own or pair in ready_made)}
    )


def leaking_modules(composition: Composition) -> list[str]:
    """Those of its modules that were made from some of its own examples: somebody named them by hand."""
    made = made_from(selectors.all_examples(composition), composition.owner)
    return list(composition.modules.filter(version__module__in=made).values_list("name", flat=True))


@dataclass(frozen=True)
class CompatibleModules:
    """The modules that fit a base, apart from those that were composed from some of the task's own examples.

    Such a module has the answers in it: it would win, and say nothing about the others.
    """

    clean: FittingModules
    leaking: list[FittingModule]


def find_compatible_modules(
    base: BaseModel, method: str, examples: Sequence[Example], owner: object
) -> CompatibleModules:
    """All that fit and that the owner may see (none: everybody)."""
    fitting = find_fitting(base, method, owner)
    made = made_from(examples, owner)
    leaking = list(fitting.candidates.filter(module__in=made).order_by("name")) if made else []
    clean = fitting
    if leaking:
        others = fitting.candidates.exclude(module__in=[candidate.pk for candidate in leaking])
        clean = FittingModules(base, others, fitting.count - len(leaking))
    return CompatibleModules(clean, [fitting_module(candidate) for candidate in leaking])


def leakage_text(names: Sequence[str]) -> str:
    """What to know before, and after, such modules are composed because somebody named them."""
    return leakage_sentence(", ".join(names), len(names))


def leakage_text_without_names(count: int) -> str:
    """The same for a reader who may not know their names."""
    return leakage_sentence("One of its modules" if count == 1 else f"{count} of its modules", count)


def leakage_sentence(which: str, count: int) -> str:
    was, it, fits, has = ("was", "it", "fits", "has") if count == 1 else ("were", "they", "fit", "have")
    return (
        f"{which} {was} made from some of these examples, and {it} {fits} them for that alone: trust "
        f"only what is measured on examples that {it} {has} not seen."
    )
