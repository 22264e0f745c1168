"""What a run measured of its modules, as neutral rows of the registry."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from composer.core.spec.examples import Example
from composer.core.spec.verdict_labels import USES
from composer.models import Composition, CompositionModule
from composer.selectors import few_shot_examples, held_out_examples
from composer.task.demo_tasks import DemoTask, demo_tasks
from modules_registry.evidence import evidence_record, versions_not_of
from modules_registry.models import Evidence, Version

Loss = tuple[Version, float]  # in nats per label token


def record_composition(
    composition: Composition, modules: Sequence[CompositionModule], report: Mapping[str, Any]
) -> None:
    """Of a finished composition: how good each module was alone, and if it helped what leaving each out cost.

    Args:
        modules: of the composition, each with its version and the version's module.
    """
    versions = {module.name: module.version for module in modules}
    examples = few_shot_examples(composition)
    task = ready_made_task(composition.base.name, examples)
    if task:
        told = composition.events.filter(kind="alone").values_list("detail", flat=True)
        alone = [row for detail in told for row in detail["modules"]]
        record_alone(task.name, len(examples), base_loss(report), losses_of(alone, versions, len(examples)))
        if set(held_out_examples(composition)) <= set(task.held_out):
            record_single(task.name, len(examples), report, versions)
    if report["verdict"]["decision"] not in USES:
        return  # what a module was needed for was of no use
    counted = {version.pk for version in versions_not_of(composition.owner, versions.values())}
    evidence_record(
        Evidence(
            module_id=version.module_id,
            weights_sha256=version.weights_sha256,
            kind=Evidence.Kind.PART,
            source=f"composition:{composition.pk}",
            n_examples=len(examples),
            loss_nats=row["without_loss_nats"],
            reference_nats=report["few_shot_loss_nats"],
        )
        for row in report["modules"]
        if (version := versions.get(row["name"])) is not None
        and version.pk in counted
        and row.get("without_loss_nats") is not None
        and report.get("few_shot_loss_nats") is not None
    )


def record_result(composition: Composition, version: Version) -> None:
    """Of a composition that was published as this version: how good it is."""
    report = composition.report or {}
    if report.get("few_shot_loss_nats") is None:
        return
    result = Evidence(
        module_id=version.module_id,
        weights_sha256=version.weights_sha256,
        kind=Evidence.Kind.WHOLE,
        source=f"composition:{composition.pk}",
        n_examples=report["n_shots"],
        loss_nats=report["few_shot_loss_nats"],
        reference_nats=base_loss(report),
        **score_of(report, "composed"),
    )
    evidence_record([result])


def record_single(
    task: str, n_examples: int, report: Mapping[str, Any], versions: Mapping[str, Version]
) -> None:
    """How often the best module alone answers a ready-made task right."""
    row, score = row_of(report, "best_single"), score_of(report, "best_single")
    version = versions.get(row["detail"]) if score else None
    if version is None or row["few_shot_loss_nats"] is None:
        return
    single = Evidence(
        module_id=version.module_id,
        weights_sha256=version.weights_sha256,
        kind=Evidence.Kind.SCORE,
        source=f"task:{task}",
        task=task,
        n_examples=n_examples,
        loss_nats=row["few_shot_loss_nats"],
        reference_nats=base_loss(report),
        **score,
    )
    evidence_record([single])


def record_alone(task: str, n_examples: int, base_nats: float | None, losses: Iterable[Loss]) -> None:
    """Losses alone on the examples of a ready-made task."""
    evidence_record(
        Evidence(
            module_id=version.module_id,
            weights_sha256=version.weights_sha256,
            kind=Evidence.Kind.ALONE,
            source=f"task:{task}",
            task=task,
            n_examples=n_examples,
            loss_nats=nats,
            reference_nats=base_nats,
        )
        for version, nats in losses
    )


def losses_of(
    rows: Iterable[Mapping[str, Any]], versions: Mapping[str, Version], n_examples: int
) -> list[Loss]:
    """Of modules that were scored on all examples, the loss that was told last."""
    last = {row["name"]: row["loss_nats"] for row in rows if row.get("n_shots") == n_examples}
    return [(versions[name], nats) for name, nats in last.items() if nats is not None and name in versions]


def ready_made_task(base: str, examples: Sequence[Example]) -> DemoTask | None:
    """The ready-made task that has exactly these examples."""
    asked = set(examples)
    return next((task for task in demo_tasks() if task.base == base and set(task.shots) == asked), None)


def row_of(report: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A row of the comparison; empty where that was not compared."""
    return next((row for row in report["baselines"] if row["key"] == key), {})


def base_loss(report: Mapping[str, Any]) -> float | None:
    """The few-shot loss of the base alone; None where it was not compared."""
    nats: float | None = row_of(report, "zero_shot").get("few_shot_loss_nats")
    return nats


def score_of(report: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Right answers of a row to held-out examples, beside those of the base alone, as columns of Evidence."""
    percent = row_of(report, key).get("held_out_exact_match_percent")
    if percent is None or not report["n_held_out"]:
        return {}
    reference = row_of(report, "zero_shot").get("held_out_exact_match_percent")
    return {"score_percent": percent, "reference_percent": reference, "n_scored": report["n_held_out"]}
