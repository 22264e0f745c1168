"""Which module was made from which others, and how much of each went in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, F, ProtectedError

from modules_registry.models import Lineage, Module, Version
from modules_registry.notices import tell_of_child

USED_IN_MAX = 100  # modules listed on a parent's page


@dataclass(frozen=True)
class VisibleParent:
    """A version that a viewer may see, and its weight in what was made from it."""

    module: Module
    version: Version
    weight: float


@dataclass(frozen=True)
class VisibleChild:
    """A module that a viewer may see, its version that another one went into, and the weight of that."""

    module: Module
    version: Version
    weight: float


@dataclass(frozen=True)
class ComposedFrom:
    """What a version was made from, for one viewer."""

    parents: tuple[VisibleParent, ...]
    hidden: int  # parents that became private, or were deleted: they have no names


def lineage_record(*, version: Version, parents: Sequence[tuple[Version, float]]) -> None:
    """Write down what a new version was made from, in its own transaction; tell the people of its parents."""
    Lineage.objects.bulk_create(
        Lineage(child=version, made_from=parent, weight=weight, position=position)
        for position, (parent, weight) in enumerate(parents)
    )
    tell_of_child(version.module)


def with_descendants(modules: Collection[int]) -> set[int]:
    """These modules (by their keys), and all that were made from any of them, however often."""
    found = set(modules)
    latest = found
    while latest:
        children = Lineage.objects.filter(made_from__module__in=latest)
        latest = set(children.values_list("child__module", flat=True)) - found
        found |= latest
    return found


def composed_from(version: Version, viewer: object) -> ComposedFrom:
    """The parents of these weights, heaviest first: another card on them changes no lineage."""
    rows = list(
        Lineage.objects.filter(
            child__module=version.module_id, child__weights_sha256=version.weights_sha256
        ).select_related("made_from__module__namespace")
    )
    parents = {row.made_from.module_id for row in rows}
    visible = set(Module.objects.visible_to(viewer).filter(pk__in=parents).values_list("pk", flat=True))
    shown = [
        VisibleParent(row.made_from.module, row.made_from, row.weight)
        for row in sorted(rows, key=lambda row: -abs(row.weight))
        if row.made_from.module_id in visible
    ]
    return ComposedFrom(tuple(shown), len(rows) - len(shown))


def used_in(module: Module, viewer: object) -> list[VisibleChild]:
    """The modules that a viewer may see whose current weights were made from this one's, newest first."""
    rows = (
        Lineage.objects.filter(
            made_from__module=module,
            child__weights_sha256=F("child__module__current__weights_sha256"),
            child__module__in=Module.objects.visible_to(viewer),
        )
        .select_related("child__module__namespace")
        .order_by("-child__module__created_at", "child__module", "-child")
    )
    once: dict[int, VisibleChild] = {}
    for row in rows[: 2 * USED_IN_MAX]:  # a module has several versions of the same weights
        once.setdefault(row.child.module_id, VisibleChild(row.child.module, row.child, row.weight))
    return list(once.values())[:USED_IN_MAX]


def parents_counted(versions: Collection[int]) -> dict[int, int]:
    """How many modules each of these versions was made from, by its key; without those made from none."""
    counted = Lineage.objects.filter(child__in=versions).order_by().values_list("child")
    return dict(counted.annotate(count=Count("pk")))


def delete_unless_needed(version: Version) -> None:
    try:
        with transaction.atomic():
            version.delete()
    except ProtectedError:
        return  # something was made from it and must stay repeatable
