"""Which modules fit a base model under a method, and why the others do not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from composer.core.spec.choices import METHODS, TAKES_ANY_SHAPE, choice_names
from modules_registry import selectors as registry
from modules_registry.core.compatibility import Base, ModuleFacts, Reason, reasons_against
from modules_registry.models import BaseModel, Module, Version

CHOICES_SHOWN_MAX, MISFITS_SHOWN_MAX = 500, 50


@dataclass(frozen=True)
class ModuleCompatibility:
    """A module, and what speaks against composing it on a base by a method."""

    version: Version
    name: str  # namespace/name
    reasons: tuple[Reason, ...]

    @property
    def is_compatible(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class ModuleToChoose:
    """A line of the list that modules are chosen from by hand."""

    version: Version
    name: str
    cannot: str  # why it cannot be chosen at all; empty when it can
    not_with: dict[str, str]  # method -> why that method cannot take it

    def has(self, words: str) -> bool:
        text = f"{self.name} {self.version.module.sentence}".lower()
        return all(word in text for word in words.lower().split())


def check_compatibility(base: BaseModel, method: str, owner: object) -> list[ModuleCompatibility]:
    """Every module of the base that the owner may see, with what speaks against it under this method."""
    return compatibility_of(list(registry.composable_versions(base, owner)), base, method)


def compatibility_of(versions: Sequence[Version], base: BaseModel, method: str) -> list[ModuleCompatibility]:
    reasons = reasons_of(versions, base, takes_any_shape=method in TAKES_ANY_SHAPE)
    called = [version.module.full_name for version in versions]
    return [
        ModuleCompatibility(version, name, reasons[name])
        for version, name in zip(versions, called, strict=True)
    ]


def reasons_of(
    versions: Sequence[Version], base: BaseModel, *, takes_any_shape: bool
) -> dict[str, tuple[Reason, ...]]:
    """What speaks against each, by its name; of a method only whether it adds whole updates counts."""
    candidates = [module_facts(version, base) for version in versions]
    return reasons_against(candidates, Base(base.name, base.revision), factor_by_factor=not takes_any_shape)


def modules_to_choose_from(
    base: BaseModel, owner: object, words: str = "", chosen: Collection[str] = ()
) -> list[ModuleToChoose]:
    """The base's modules with these words, then some that cannot be composed on it, each with its reason.

    Those that are chosen are always there, and first: a form sends only what it shows.
    """
    found = [module for module in every_module(base, owner) if module.name in chosen or module.has(words)]
    return sorted(found, key=lambda module: module.name not in chosen)[:CHOICES_SHOWN_MAX]


def every_module(base: BaseModel, owner: object) -> list[ModuleToChoose]:
    versions = list(registry.composable_versions(base, owner))
    by_rule = {rule: reasons_of(versions, base, takes_any_shape=rule) for rule in (True, False)}
    by_method = {method: by_rule[method in TAKES_ANY_SHAPE] for method in choice_names(METHODS)}
    composable = [
        ModuleToChoose(
            version,
            version.module.full_name,
            cannot="",
            not_with={
                method: " ".join(reason.message for reason in reasons[version.module.full_name])
                for method, reasons in by_method.items()
                if reasons[version.module.full_name]
            },
        )
        for version in versions
    ]
    others = (
        Version.objects.filter(current_of__in=Module.objects.visible_to(owner))
        .exclude(base=base)
        .select_related("module__namespace", "base")[:MISFITS_SHOWN_MAX]
    )
    return composable + [
        ModuleToChoose(version, version.module.full_name, cannot=why_not(version, base), not_with={})
        for version in others
    ]


def why_not(version: Version, base: BaseModel) -> str:
    if version.base is None:
        return f"Not composable here: {registry.not_composable_because(version)}."
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
