"""Which modules are like another one: the same weights, near-copies, near by weights, near by text."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Window

from modules_registry.models import Module, NearCopy, Sketch, TextSketch, Version
from modules_registry.nearest import by_cosine, filtered_search

SIMILAR_MAX = 8
SAME_SHOWN_MAX = 20  # modules with the same weights that are named
SAID = 0.2  # the cosine of two texts below which they are not called similar: unrelated ones reach it


@dataclass(frozen=True)
class Similar:
    """A module near another one. Those with the same weights are one entry, named after the oldest."""

    module: Module
    cosine: float  # estimated from sketches, -1 to 1
    same_weights: int  # how many more modules have the same weights


@dataclass(frozen=True)
class Copies:
    """Modules with the weights of another one, and those whose deltas have a cosine of at least 0.999."""

    same: tuple[Module, ...]  # the oldest first, at most SAME_SHOWN_MAX
    same_count: int
    near: tuple[Similar, ...]  # the nearest first; their cosines are exact


@dataclass(frozen=True)
class CopyOf:
    """The oldest module with the same weights, or nearly the same."""

    module: Module
    cosine: float  # 1 for the same weights, and for their multiples
    is_same: bool

    @property
    def label(self) -> str:
        return "same weights as" if self.is_same else f"cosine {self.cosine:.4f}: near-copy of"

    @property
    def sentence(self) -> str:
        return f"{self.label} {self.module.full_name}"


def listed(viewer: object) -> QuerySet[Module]:
    """What a list may name for this viewer."""
    return Module.objects.visible_to(viewer).published()


@dataclass(frozen=True)
class Neighbours:
    """The modules near one, the nearest first: by weights, of the same base, and by text, of any base."""

    by_weights: list[Similar]
    by_text: list[Similar]


def neighbours(version: Version, viewer: object) -> Neighbours:
    """Both kinds at once, in one transaction."""
    with filtered_search(version.base_name) as compares_all:
        by_weights = nearest_by_weights(version, viewer, compares_all=compares_all)
        return Neighbours(by_weights, nearest_by_text(version.module_id, viewer))


def similar_by_weights(version: Version, viewer: object) -> list[Similar]:
    with filtered_search(version.base_name) as compares_all:
        return nearest_by_weights(version, viewer, compares_all=compares_all)


def similar_by_text(module: Module, viewer: object) -> list[Similar]:
    with filtered_search():
        return nearest_by_text(module.pk, viewer)


def nearest_by_weights(version: Version, viewer: object, *, compares_all: bool) -> list[Similar]:
    """The modules of the same base whose deltas are nearest to this version's, by the sketches' cosine.

    Nothing while the version is not measured, or where it changes nothing. Within `filtered_search`.
    """
    own = version.sketch
    if own is None or own.vector is None:
        return []
    in_use = Version.objects.filter(sketch=OuterRef("pk"), current_of__in=listed(viewer))
    others = Sketch.objects.filter(Exists(in_use), base_name=own.base_name, vector__isnull=False)
    others = others.exclude(pk=own.pk).defer("strengths")
    nearest = by_cosine(others, own.vector, compares_all=compares_all)[:SIMILAR_MAX]
    return with_modules({sketch.pk: 1 - sketch.away for sketch in nearest}, viewer)


def nearest_by_text(module: int, viewer: object) -> list[Similar]:
    """The modules, of any base, of which the most similar things are said. Within `filtered_search`."""
    own = TextSketch.objects.filter(module=module).first()
    if own is None or own.vector is None:
        return []
    visible = listed(viewer).filter(pk=OuterRef("module"))
    others = TextSketch.objects.filter(Exists(visible), vector__isnull=False).exclude(pk=own.pk)
    nearest = by_cosine(others, own.vector).select_related("module__namespace")[:SIMILAR_MAX]
    return [Similar(row.module, 1 - row.away, 0) for row in nearest if 1 - row.away >= SAID]


def first_of_copies(sketch_of: Mapping[int, int | None]) -> set[int]:
    """Of these versions, in their order, those whose deltas are no copy, nor nearly one, of those before.

    Args:
        sketch_of: the keys of the versions with those of their sketches; None: not measured yet.
    """
    near = near_sketches(set(sketch_of.values()))
    kept, seen = set[int](), set[int]()
    for version, sketch in sketch_of.items():
        if sketch is None or not seen & {sketch, *near.get(sketch, ())}:
            kept.add(version)
            if sketch is not None:
                seen.add(sketch)
    return kept


def with_modules(cosines: dict[int, float], viewer: object) -> list[Similar]:
    """The oldest visible module of each sketch, in the order given."""
    oldest = (
        listed(viewer)
        .filter(current__sketch__in=cosines)
        .annotate(same=Window(Count("pk"), partition_by=F("current__sketch")))
        .select_related("namespace", "current")
        .order_by("current__sketch", "pk")
        .distinct("current__sketch")
    )
    found = {module.current.sketch_id: module for module in oldest if module.current is not None}
    return [
        Similar(found[sketch], cosine, found[sketch].same - 1)  # type: ignore[attr-defined]
        for sketch, cosine in cosines.items()
        if sketch in found
    ]


def copies_of(version: Version, viewer: object) -> Copies:
    """The other modules that have these weights now, and those that nearly have them."""
    same = listed(viewer).filter(has_weights_of(version)).exclude(pk=version.module_id).order_by("pk")
    near = near_sketches([version.sketch_id]).get(version.sketch_id, {})
    cosines = dict(sorted(near.items(), key=lambda item: -item[1]))
    shown = list(same.select_related("namespace")[: SAME_SHOWN_MAX + 1])
    count = len(shown) if len(shown) <= SAME_SHOWN_MAX else same.count()
    return Copies(tuple(shown[:SAME_SHOWN_MAX]), count, tuple(with_modules(cosines, viewer)))


# What `weights_key` reads of a version, in its order.
WEIGHTS_KEY = ("sketch", "weights_sha256", "base_name")


def weights_key(sketch: int | None, weights_sha256: str, base_name: str) -> tuple[object, ...]:
    """What two versions have in common that have the same weights, by the rule of `has_weights_of`."""
    return (sketch,) if sketch is not None else (weights_sha256, base_name)


def has_weights_of(version: Version) -> Q:
    """Whether a module has the weights of a version now: by their values, or until they are measured by
    their file's bytes."""
    if version.sketch_id is not None:
        return Q(current__sketch=version.sketch_id)
    return Q(current__weights_sha256=version.weights_sha256, current__base_name=version.base_name)


def near_sketches(sketches: Collection[int | None]) -> dict[int | None, dict[int, float]]:
    """The near-copies of each sketch, with their cosines."""
    found: dict[int | None, dict[int, float]] = {}
    keys = [pk for pk in sketches if pk is not None]
    if not keys:
        return {}
    pairs = NearCopy.objects.filter(Q(first__in=keys) | Q(second__in=keys))
    for first, second, cosine in pairs.values_list("first", "second", "cosine"):
        found.setdefault(first, {})[second] = cosine
        found.setdefault(second, {})[first] = cosine
    return found


def originals_of(modules: Sequence[Module], viewer: object) -> dict[int, CopyOf]:
    """Of which older module each of these is a copy, by their keys; those that are none are left out.

    Two queries, however many modules. A module is older when its row is.
    """
    own = {module.pk: module.current.sketch_id for module in modules if module.current is not None}
    near = near_sketches(set(own.values()))
    wanted = {pk for pk in own.values() if pk is not None} | {pk for found in near.values() for pk in found}
    if not wanted:
        return {}
    oldest = (
        listed(viewer)
        .filter(current__sketch__in=wanted)
        .select_related("namespace", "current")
        .only("name", "namespace__name", "current__sketch")
        .order_by("current__sketch", "pk")
        .distinct("current__sketch")
    )
    first = {module.current.sketch_id: module for module in oldest if module.current is not None}
    found = {}
    for pk, sketch in own.items():
        cosines = {sketch: 1.0, **near.get(sketch, {})} if sketch is not None else {}
        older = [
            CopyOf(first[other], cosine, is_same=other == sketch)
            for other, cosine in cosines.items()
            if other in first and first[other].pk < pk
        ]
        if older:
            found[pk] = max(older, key=lambda copy: (copy.is_same, copy.cosine))
    return found
