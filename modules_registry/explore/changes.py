"""What changed between two versions of a module: configuration, card, and how far the weights went."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules_registry.blobs import open_stored
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.measuring import distance_of, rows_of
from modules_registry.models import Version, VersionDistance

# Weights of two versions up to this size together are compared while the reader waits (about 0.1 s). Larger
# ones are compared by a worker, and only with the version before.
COMPARED_BYTES_MAX = 16_000_000
CARD_LINES_MAX = 800  # that differ; longer cards are not compared line by line
CONTEXT_LINES = 2


@dataclass(frozen=True)
class ChangedFact:
    """One key of the configuration."""

    key: str
    before: str  # as JSON; empty: it was not there
    after: str


@dataclass(frozen=True)
class DiffLine:
    kind: str  # "added", "removed", "same" or "place"
    text: str

    @property
    def signed(self) -> str:
        """The line behind its sign, as people read it."""
        return {"added": "+ ", "removed": "− ", "same": "  ", "place": "  "}[self.kind] + self.text


@dataclass(frozen=True)
class LayerChange:
    """How far one layer went."""

    path: str
    norm_before: float  # ‖ΔW‖_F
    norm_after: float
    distance: float  # ‖ΔW_after - ΔW_before‖_F
    cosine: float
    width: float  # percent: the distance as a share of the largest


@dataclass(frozen=True)
class WeightsChange:
    """How far the weights went. `reason` says why nothing is known; then the rest is zero."""

    reason: str = ""
    is_same: bool = False
    distance: float = 0.0
    cosine: float = 0.0
    layers: tuple[LayerChange, ...] = ()  # those that went farthest first


@dataclass(frozen=True)
class Changes:
    before: Version
    after: Version
    config: tuple[ChangedFact, ...]
    card: tuple[DiffLine, ...]
    card_is_too_long: bool
    weights: WeightsChange


def changes_between(before: Version, after: Version) -> Changes:
    """All that differs between two complete versions of one module."""
    card, is_too_long = card_diff(text_of(before, CARD_FILE), text_of(after, CARD_FILE))
    return Changes(
        before=before,
        after=after,
        config=config_diff(config_of(before), config_of(after)),
        card=card,
        card_is_too_long=is_too_long,
        weights=weights_change(before, after),
    )


def config_of(version: Version) -> dict[str, Any]:
    """The configuration as it is stored."""
    config: dict[str, Any] = json.loads(text_of(version, CONFIG_FILE) or "{}")
    return config


def text_of(version: Version, path: str) -> str:
    """A small file of text; empty if there is none."""
    file = next((file for file in version.files.all() if file.path == path), None)
    if file is None:
        return ""
    with open_stored(file.sha256) as stored:
        return stored.read().decode("utf-8", errors="replace")


def config_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ChangedFact, ...]:
    """The keys whose values differ, sorted."""
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return tuple(ChangedFact(key, as_json(before, key), as_json(after, key)) for key in keys)


def as_json(config: Mapping[str, Any], key: str) -> str:
    return json.dumps(config[key], ensure_ascii=False) if key in config else ""


def card_diff(before: str, after: str) -> tuple[tuple[DiffLine, ...], bool]:
    """The lines that differ with their context, and whether there are too many to tell."""
    old, new = before.splitlines(), after.splitlines()
    if old == new:
        return (), False
    if differing(old, new) > CARD_LINES_MAX:
        return (), True
    kinds = {"+": "added", "-": "removed", " ": "same", "@": "place"}
    lines = list(difflib.unified_diff(old, new, lineterm="", n=CONTEXT_LINES))[2:]
    return tuple(DiffLine(kinds[line[0]], line if line[0] == "@" else line[1:]) for line in lines), False


def differing(old: list[str], new: list[str]) -> int:
    """How many lines lie between the first and the last that differ, of both together."""
    shortest = min(len(old), len(new))
    start = next((i for i in range(shortest) if old[i] != new[i]), shortest)
    left = shortest - start
    end = next((i for i in range(left) if old[-1 - i] != new[-1 - i]), left)
    return len(old) + len(new) - 2 * (start + end)


def weights_change(before: Version, after: Version) -> WeightsChange:
    """How far the weights went, as a worker found it; small ones are compared now."""
    if before.weights_sha256 == after.weights_sha256 and config_of(before) == config_of(after):
        return WeightsChange(is_same=True)
    if before.sketch_id is not None and before.sketch_id == after.sketch_id:
        return WeightsChange(is_same=True)
    if before.base_name != after.base_name:
        return WeightsChange(reason=f"They are for {before.base_name} and for {after.base_name}.")
    reason = before.not_composable or after.not_composable
    if reason:
        return WeightsChange(reason=reason)
    stored = stored_distance(before, after)
    if stored is not None:
        return as_change(stored.distance, stored.cosine, stored.layers)
    if weights_bytes(before) + weights_bytes(after) > COMPARED_BYTES_MAX:
        return WeightsChange(reason="Weights of this size are compared with those of the version before.")
    found = distance_of(before, after)
    return as_change(found.distance, found.cosine, rows_of(found))


def stored_distance(before: Version, after: Version) -> VersionDistance | None:
    """What a worker found for two versions with these weights: an edited card leaves them as they are."""
    if before.sketch_id is None or after.sketch_id is None:
        return None
    of_module = VersionDistance.objects.filter(version__module=after.module_id)
    return of_module.filter(before__sketch=before.sketch_id, version__sketch=after.sketch_id).first()


def weights_bytes(version: Version) -> int:
    return next((file.size_bytes for file in version.files.all() if file.path == WEIGHTS_FILE), 0)


def as_change(distance: float, cosine: float, rows: Sequence[Sequence[Any]]) -> WeightsChange:
    largest = max((row[3] for row in rows), default=0.0) or 1.0
    layers = [
        LayerChange(path, norm_before, norm_after, went, layer_cosine, 100 * went / largest)
        for path, norm_before, norm_after, went, layer_cosine in rows
    ]
    return WeightsChange(
        distance=distance,
        cosine=cosine,
        layers=tuple(sorted(layers, key=lambda layer: -layer.distance)),
    )
