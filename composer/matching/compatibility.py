"""Which modules fit a base model under a method, and why the others do not."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import QuerySet
from django.urls import reverse

from composer.core.spec.choices import METHODS, TAKES_ANY_SHAPE, choice_names
from composer.core.spec.examples import is_storable
from modules_registry import selectors as registry
from modules_registry.candidates import candidates_of, common_shape, found_by, of_shapes, shapes_counted
from modules_registry.core.compatibility import (
    Base,
    ModuleFacts,
    Reason,
    Shape,
    reasons_against,
    reasons_of_shape,
)
from modules_registry.models import BaseModel, Candidate, Module, Version

CHOICES_SHOWN_MAX, MISFITS_SHOWN_MAX = 100, 20


@dataclass(frozen=True)
class FittingModule:
    """A module that fits, pinned to a version."""

    name: str  # namespace/name
    module_id: int
    version_id: int

    def get_absolute_url(self) -> str:
        return reverse("modules_registry:module", args=self.name.split("/"))


def fitting_module(candidate: Candidate) -> FittingModule:
    return FittingModule(candidate.name, candidate.module_id, candidate.version_id)


@dataclass(frozen=True)
class FittingModules:
    """The modules that fit a base under a method, and that one may see: there may be thousands."""

    base: BaseModel
    candidates: QuerySet[Candidate]
    count: int


def find_fitting(base: BaseModel, method: str, owner: object) -> FittingModules:
    candidates = candidates_of(base, owner)
    counted = shapes_counted(candidates)
    if method not in TAKES_ANY_SHAPE:
        shape = common_shape(counted)
        counted = [row for row in counted if row.shape == shape and not row.has_own_ranks]
        candidates = of_shapes(candidates, counted)
    return FittingModules(base, candidates, sum(row.count for row in counted))


@dataclass(frozen=True)
class ModuleToChoose:
    """A line of the list that modules are chosen from by hand."""

    name: str
    sentence: str
    cannot: str  # why it cannot be chosen at all; empty when it can
    not_with: dict[str, str]  # method -> why that method cannot take it


@dataclass(frozen=True)
class ModulesToChoose:
    """The list that modules are chosen from by hand, and how many it leaves out."""

    picked: list[ModuleToChoose]  # those that are chosen already
    modules: list[ModuleToChoose]  # the others
    n_left_out: int  # that can be composed on the base and have the words looked for

    @property
    def left_out_text(self) -> str:
        if not self.n_left_out:
            return ""
        return f"{self.n_left_out:,} more are not shown. Find them by a name or a word."


def modules_to_choose_from(
    base: BaseModel, owner: object, words: str = "", chosen: Collection[str] = ()
) -> ModulesToChoose:
    """The base's modules with these words, then some that cannot be composed on it, each with its reason.

    Those that are chosen are always there: a form sends only what it shows.
    """
    words = words if is_storable(words) else ""
    candidates = candidates_of(base, owner)
    shape = common_shape(shapes_counted(candidates))
    names = [name for name in chosen if is_storable(name)]
    found = found_by(base, candidates, words).exclude(name__in=names)
    picked, others = (
        [
            ModuleToChoose(row.name, row.module.sentence, cannot="", not_with=methods_without(row, shape))
            for row in rows.select_related("module").order_by("name")[:most]
        ]
        for rows, most in ((candidates.filter(name__in=names), len(names)), (found, CHOICES_SHOWN_MAX))
    )
    n_left_out = max(0, found.count() - CHOICES_SHOWN_MAX)
    return ModulesToChoose(picked, [*others, *misfits(base, owner, words)], n_left_out)


def methods_without(candidate: Candidate, shape: Shape | None) -> dict[str, str]:
    """The methods that cannot take it beside the others, each with the reason."""
    facts = ModuleFacts(
        name=candidate.name,
        base="",
        revision=None,
        rank=candidate.rank,
        scaling=candidate.scaling,
        targets=tuple(candidate.targets),
        has_own_ranks=candidate.has_own_ranks,
    )
    because = " ".join(reason.message for reason in reasons_of_shape(facts, shape))
    factor_by_factor = [name for name in choice_names(METHODS) if name not in TAKES_ANY_SHAPE]
    return dict.fromkeys(factor_by_factor, because) if because else {}


def misfits(base: BaseModel, owner: object, words: str) -> list[ModuleToChoose]:
    """Some of the modules with these words that cannot be composed on the base."""
    others = Module.objects.visible_to(owner).published().exclude(current__base=base)
    for word in words.split():
        others = others.filter(name__icontains=word)
    shown = list(others.select_related("namespace", "current__base").order_by("-pk")[:MISFITS_SHOWN_MAX])
    bases = registry.bases_called({module.current.base_name for module in shown if module.current})
    return [
        ModuleToChoose(module.full_name, module.sentence, why_not(module, base, bases), not_with={})
        for module in shown
    ]


def compatibility_of(
    versions: Sequence[Version], base: BaseModel, method: str
) -> list[tuple[FittingModule, tuple[Reason, ...]]]:
    """Modules that were named, each with what speaks against composing it with the others."""
    candidates = [module_facts(version, base) for version in versions]
    reasons = reasons_against(
        candidates, Base(base.name, base.revision), factor_by_factor=method not in TAKES_ANY_SHAPE
    )
    return [
        (FittingModule(facts.name, version.module_id, version.pk), reasons[facts.name])
        for version, facts in zip(versions, candidates, strict=True)
    ]


def why_not(module: Module, base: BaseModel, bases: Mapping[str, BaseModel]) -> str:
    """Why a published module cannot be composed on this base.

    Args:
        bases: of the library, by what the modules call them.
    """
    version = module.current
    assert version is not None  # it is published
    if version.base is None:
        version.module = module
        return f"Not composable here: {registry.not_composable_because(version, bases.get)}."
    return f"It was trained on {version.base_name}, not on {base.name}."


def module_facts(version: Version, base: BaseModel) -> ModuleFacts:
    return ModuleFacts(
        name=version.module.full_name,
        base=base.name if version.base_id == base.pk else version.base_name,
        revision=None,  # the gate held it against the library's own revision
        rank=version.rank,
        scaling=version.scaling,
        targets=tuple(version.targets),
        has_own_ranks=version.has_own_ranks,
    )
