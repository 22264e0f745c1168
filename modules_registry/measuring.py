"""What is measured of modules, once: their weights by a worker, their texts when they are saved."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db.models import Exists, F, OuterRef

from modules_registry.blobs import open_stored
from modules_registry.core.adapter_config import read_config
from modules_registry.core.delta import NEAR_COPY, Delta, DeltaDistance, delta_distance, open_delta
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.core.sketch import Measured, measure
from modules_registry.core.text_sketch import text_sketch
from modules_registry.models import (
    Module,
    NearCopy,
    Sketch,
    TextSketch,
    Version,
    VersionDistance,
    VersionFile,
)
from modules_registry.nearest import by_cosine, filtered_search
from modules_registry.selectors import card_of, git_blob_id

ATTEMPTS_MAX = 3  # a version that stops the worker as often is not tried again
AT_ONCE = 200  # versions that one sweep queues
DIGITS = 6  # of a stored norm
# How much each part of what is said of a module counts for its likeness to others, dimensionless.
NAME_WEIGHT, SENTENCE_WEIGHT, TAGS_WEIGHT, CARD_WEIGHT = 1.0, 1.0, 0.7, 0.5
# The cosine of sketches from which pairs are computed exactly; near 0.999 it is off by about 0.0001.
NEAR_ENOUGH = 0.998
NEAREST_MAX = 20  # sketches that a new one is held against

logger = logging.getLogger(__name__)


def unmeasured() -> list[int]:
    """Complete versions that no worker has measured yet, the newest first."""
    waiting = Version.objects.filter(
        sketch=None, rank__gt=0, not_composable="", measure_attempts__lt=ATTEMPTS_MAX
    )
    return list(waiting.order_by("measure_attempts", "-pk").values_list("pk", flat=True)[:AT_ONCE])


def version_measure(version_id: int) -> None:
    """Measure a version's weights, find their near-copies, and the distance to the version before it.

    Harmless when it is measured already, gone, or cannot be measured.
    """
    claimed = Version.objects.filter(pk=version_id, sketch=None, not_composable="", rank__gt=0)
    if not claimed.filter(measure_attempts__lt=ATTEMPTS_MAX).update(
        measure_attempts=F("measure_attempts") + 1
    ):
        return
    version = Version.objects.select_related("parent").prefetch_related("files").get(pk=version_id)
    with opened_delta(version) as layers:
        measured = measure(layers)
    sketch, is_new = sketch_store(version.base_name, measured)
    Version.objects.filter(pk=version_id).update(sketch=sketch)
    version.sketch = sketch
    if is_new:
        find_near_copies(version)
    store_distance(version)


def sketch_store(base_name: str, measured: Measured) -> tuple[Sketch, bool]:
    """The row of these weights; whether it is new."""
    return Sketch.objects.get_or_create(
        base_name=base_name,
        delta_sha256=measured.sha256,
        defaults={
            "vector": measured.sketch if measured.sketch.any() else None,
            "norm": measured.norm,
            "strengths": [
                [each.path, rounded(each.norm), rounded(each.largest)] for each in measured.strengths
            ],
        },
    )


def find_near_copies(version: Version) -> None:
    """Compute the cosine to the nearest sketches of the same base, and keep those that are near-copies.

    The own sketch is stored already: of two that come at the same time, at least one finds the other.
    """
    own = version.sketch
    if own is None or own.vector is None:
        return
    in_use = Exists(Version.objects.filter(sketch=OuterRef("pk")))
    others = Sketch.objects.filter(in_use, base_name=own.base_name, vector__isnull=False).exclude(pk=own.pk)
    with filtered_search(own.base_name) as compares_all:
        near = list(by_cosine(others, own.vector, compares_all=compares_all)[:NEAREST_MAX])
    for other in near:
        if 1 - other.away < NEAR_ENOUGH:
            break
        same_weights = other.versions.prefetch_related("files").first()
        if same_weights is None:
            continue
        cosine = distance_of(version, same_weights).cosine
        if cosine >= NEAR_COPY:
            first, second = sorted((own.pk, other.pk))
            NearCopy.objects.get_or_create(first_id=first, second_id=second, defaults={"cosine": cosine})


def store_distance(version: Version) -> None:
    """Keep how far this version went from the one before it, if that had other weights on the same base."""
    before = version.parent
    if before is None or not before.is_complete or before.not_composable:
        return
    if before.base_name != version.base_name or before.sketch_id == version.sketch_id:
        return
    found = distance_of(before, version)
    VersionDistance.objects.update_or_create(
        version=version,
        defaults={
            "before": before,
            "distance": found.distance,
            "cosine": found.cosine,
            "layers": rows_of(found),
        },
    )


def rows_of(found: DeltaDistance) -> list[list[object]]:
    return [
        [
            layer.path,
            *(rounded(value) for value in (layer.first_norm, layer.second_norm, layer.distance)),
            rounded(layer.cosine),
        ]
        for layer in found.layers
    ]


def distance_of(first: Version, second: Version) -> DeltaDistance:
    """How far two versions lie apart, computed from their files."""
    with opened_delta(first) as one, opened_delta(second) as other:
        return delta_distance(one, other)


@contextmanager
def opened_delta(version: Version) -> Iterator[Delta]:
    """The adapter of a complete version, read layer by layer."""
    files = {file.path: file.sha256 for file in version.files.all()}
    with open_stored(files[CONFIG_FILE]) as config_file:
        config = read_config(config_file)
    with open_stored(files[WEIGHTS_FILE]) as weights, open_delta(weights, config) as layers:
        yield layers


def text_sketch_save(module: Module, version: Version) -> None:
    """Keep what is said of a module as numbers, of its name, sentence, tags and this version's card."""
    tags = " ".join(module.tags.values_list("name", flat=True))
    fields = {
        module.name: NAME_WEIGHT,
        module.sentence: SENTENCE_WEIGHT,
        tags: TAGS_WEIGHT,
        card_of(version).body: CARD_WEIGHT,
    }
    vector = text_sketch(fields)
    TextSketch.objects.update_or_create(module=module, defaults={"vector": vector if vector.any() else None})


def fill_in() -> None:
    """Add what older modules lack, some at a time: text sketches and git blob ids."""
    without = Module.objects.existing().published().filter(text_sketch=None).select_related("current")
    for module in without.order_by("pk")[:AT_ONCE]:
        assert module.current is not None  # it is published
        text_sketch_save(module, module.current)
    for file in VersionFile.objects.filter(git_sha1="").order_by("pk")[:AT_ONCE]:
        VersionFile.objects.filter(pk=file.pk).update(git_sha1=git_blob_id(file))


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
