"""Two to four modules side by side: what each is, where they differ, and whether they go together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db.models import prefetch_related_objects

from hub_site.common.errors import Refusal
from modules_registry.core.compatibility import Base, reasons_against
from modules_registry.core.licenses.names import license_label
from modules_registry.core.sizes import size_in_words
from modules_registry.evidence import losses_by_task
from modules_registry.models import Module, Version
from modules_registry.selectors import (
    current_versions,
    facts_of_version,
    not_composable_because,
    strengths_of,
)

COMPARED_MIN, COMPARED_MAX = 2, 4
NAME_SHOWN_MAX = 200
NOT_MEASURED = "not measured"
METHODS = {"sum": "the exact sum of their deltas", "factors": "the product of sums"}


@dataclass(frozen=True)
class FactRow:
    """One fact of every module, in the order of the modules."""

    name: str  # stable
    label: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Fit:
    """Whether the modules can be composed with each other by one method; reasons by module, if not."""

    method: str
    reasons: tuple[tuple[str, str], ...]

    @property
    def fits(self) -> bool:
        return not self.reasons

    @property
    def words(self) -> str:
        return METHODS[self.method]


@dataclass(frozen=True)
class Comparison:
    modules: Sequence[Module]
    facts: Sequence[FactRow]
    strengths: Sequence[FactRow]  # how much of each change lies in which layers; empty: none is measured
    losses: Sequence[FactRow]  # on the same examples, for each task that two of them were measured on
    fits: Sequence[Fit]

    @property
    def unmeasured_tasks(self) -> list[str]:
        """Tasks that some of them were not measured on."""
        return list(dict.fromkeys(row.name for row in self.losses if NOT_MEASURED in row.values))

    @property
    def base_name(self) -> str:
        """The base of the first."""
        return self.facts[0].values[0]


FACTS: dict[str, tuple[str, Callable[[Module, Version], str]]] = {
    "base": ("Base model", lambda _, version: version.base_name),
    "base_revision": ("Revision of the base", lambda _, version: version.base_revision or "not stated"),
    "rank": ("Rank (r)", lambda _, version: str(version.rank)),
    "scaling": ("Scaling", lambda _, version: f"{version.scaling:.4g}"),
    "targets": ("Targets", lambda _, version: ", ".join(version.targets)),
    "parameters": ("Parameters", lambda _, version: f"{version.parameters:,}"),
    "size": ("Size", lambda _, version: size_in_words(version.size_bytes)),
    "dtype": ("Precision", lambda _, version: version.dtype),
    "licence": (
        "License",
        lambda module, _: license_label(module.licence) if module.licence else "not stated",
    ),
    "template": ("Prompt template", lambda _, version: version.prompt_template or "not stated"),
    "tags": ("Tags", lambda module, _: ", ".join(tag.name for tag in module.tags.all()) or "none"),
    "version": ("Version", lambda _, version: str(version.number)),
    "downloads": ("Downloads", lambda module, _: f"{module.downloads:,}"),
    "likes": ("Likes", lambda module, _: f"{module.likes:,}"),
    "updated": ("Updated", lambda module, _: f"{module.updated_at:%-d %B %Y}"),
}


def compare_modules(names: Sequence[str], viewer: object) -> Comparison:
    """The current versions of the modules with these addresses, each once, in their order.

    Raises:
        Refusal: they are fewer than two or more than four, or one of them is not there for the viewer.
    """
    wanted = list(dict.fromkeys(filter(None, (name.strip() for name in names))))
    if not COMPARED_MIN <= len(wanted) <= COMPARED_MAX:
        raise refused(f"Name {COMPARED_MIN} to {COMPARED_MAX} different modules, as owner/name.")
    found = current_versions(wanted, viewer)
    for name in wanted:
        if name not in found:
            raise refused(f"There is no module “{name[:NAME_SHOWN_MAX]}” that you may see.")
    versions = list(dict.fromkeys(found[name] for name in wanted))
    if len(versions) < COMPARED_MIN:
        raise refused("These are names of one module. Name another one beside it.")
    prefetch_related_objects([version.module for version in versions], "tags")
    prefetch_related_objects(versions, "sketch")
    return Comparison(
        modules=[version.module for version in versions],
        facts=[
            FactRow(name, label, tuple(value(version.module, version) for version in versions))
            for name, (label, value) in FACTS.items()
        ],
        strengths=strength_rows(versions),
        losses=loss_rows(versions),
        fits=[fit_of(versions, method) for method in METHODS],
    )


def strength_rows(versions: Sequence[Version]) -> list[FactRow]:
    """The norm of each change, and which share of its square lies in layers of which name."""
    shares, norms = [], []
    for version in versions:
        squares: dict[str, float] = {}
        for layer in strengths_of(version):
            target = layer.path.rpartition(".")[2]
            squares[target] = squares.get(target, 0.0) + layer.norm**2
        total = sum(squares.values())
        norms.append(f"{total**0.5:.3g}" if squares else NOT_MEASURED)
        shares.append({target: square / total for target, square in squares.items()} if total else {})
    targets = sorted({target for found in shares for target in found})
    if not targets:
        return []
    rows = [FactRow("norm", "Norm of ΔW", tuple(norms))]
    return rows + [
        FactRow(
            f"share_{target}",
            f"Share in {target}",
            tuple(f"{100 * found.get(target, 0.0):.0f} %" if found else NOT_MEASURED for found in shares),
        )
        for target in targets
    ]


def loss_rows(versions: Sequence[Version]) -> list[FactRow]:
    """The loss of each alone, for every task that at least two of them were measured on."""
    rows = []
    for (task, n_examples), by_module in losses_by_task(versions).items():
        losses = [by_module.get(version.module_id) for version in versions]
        base = next((loss.base_loss_nats for loss in by_module.values()), None)
        label = f"{task} ({n_examples} examples" + (f"; base alone {base:.2f})" if base is not None else ")")
        values = tuple(NOT_MEASURED if loss is None else f"{loss.loss_nats:.2f}" for loss in losses)
        rows.append(FactRow(task, label, values))
    return rows


def fit_of(versions: Sequence[Version], method: str) -> Fit:
    """Whether they can be composed with each other, all on the base of the first."""
    reasons = {version.module.full_name: not_composable_because(version) for version in versions}
    base = versions[0].base
    if base is not None and not any(reasons.values()):
        facts = [facts_of_version(version) for version in versions]
        against = reasons_against(facts, Base(base.name, base.revision), factor_by_factor=method == "factors")
        reasons = {name: " ".join(each.message for each in found) for name, found in against.items()}
    return Fit(method, tuple((name, reason) for name, reason in reasons.items() if reason))


def refused(message: str) -> Refusal:
    return Refusal("bad_comparison", message, fields={"id": [message]})
