"""What was measured with a module: rows that whoever measures writes, and what a page tells of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import JSONObject

from hub_site.accounts.models import User
from hub_site.accounts.selectors import namespaces_writable_by
from modules_registry.indexing import evidence_note
from modules_registry.models import Evidence, Lineage, Module, Version
from modules_registry.notices import tell_of_uses

HELPS_BELOW = 0.5  # of the loss of the base alone: less of a gain says nothing on a card
HURT_NATS = 0.01  # per label token: a smaller rise of the loss is no loss
TASKS_SHOWN = 20
PARTS_READ = 1000  # of the latest
ONCE = ["module", "kind", "source"]
SCORE_COLUMNS = ("score_percent", "reference_percent", "n_scored")
TASK_COLUMNS = ("task", "n_examples", "loss_nats", "reference_nats", *SCORE_COLUMNS)
MEASURED = ["weights_sha256", *TASK_COLUMNS]
TOLD = JSONObject(**{name: name for name in TASK_COLUMNS})


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a module alone on the examples of a task, in nats per label token."""

    task: str
    n_examples: int
    loss_nats: float
    base_loss_nats: float | None
    score_percent: float | None = None  # right answers to examples that were held out
    base_score_percent: float | None = None
    n_scored: int | None = None

    @property
    def drop_nats(self) -> float | None:
        """How far it lies below that of the base alone."""
        return None if self.base_loss_nats is None else self.base_loss_nats - self.loss_nats


@dataclass(frozen=True)
class Measured:
    """What a list shows of what was measured with a module's current weights: the strongest of it."""

    best: TaskLoss | None  # of the published result itself, else of the task on which it helps most
    n_parts: int  # results it took part in
    n_hurt: int  # of these, where leaving it out raised the loss by HURT_NATS or more


@dataclass(frozen=True)
class EvidenceSummary:
    """What was measured with the weights of one version."""

    tasks: tuple[TaskLoss, ...]  # the largest drop first
    n_parts: int  # results it took part in, of the latest PARTS_READ
    n_hurt: int  # of these, where leaving it out raised the loss by HURT_NATS or more
    mean_rise_nats: float | None  # over those
    n_published: int  # published modules that everybody may see and that stand on it
    result: TaskLoss | None = None  # of the composition that it was published from

    def __bool__(self) -> bool:
        return bool(self.tasks or self.n_parts or self.n_published or self.result)


def evidence_record(rows: Iterable[Evidence]) -> None:
    """Write down what was measured; the same measurement again takes the place of the earlier one."""
    unique = {(row.module_id, row.kind, row.source): row for row in rows}
    Evidence.objects.bulk_create(
        [unique[key] for key in sorted(unique)],  # one order: no deadlock
        update_conflicts=True,
        unique_fields=ONCE,
        update_fields=MEASURED,
    )
    evidence_note({row.module_id for row in unique.values()})
    tell_of_uses({row.module_id for row in unique.values() if row.kind == Evidence.Kind.PART})


def versions_not_of(user: User, versions: Iterable[Version]) -> list[Version]:
    """Those of other people's modules: what their own owner composes says nothing for them."""
    own = set(namespaces_writable_by(user).values_list("pk", flat=True))
    return [version for version in versions if version.module.namespace_id not in own]


def evidence_of(version: Version) -> EvidenceSummary:
    """What was measured with the weights of this version."""
    rows = Evidence.objects.filter(module=OuterRef("pk"), weights_sha256=version.weights_sha256)
    alone = rows.filter(kind=Evidence.Kind.ALONE).exclude(task="")
    parts = rows.filter(kind=Evidence.Kind.PART, reference_nats__isnull=False).order_by("-pk")
    scores = rows.filter(kind=Evidence.Kind.SCORE)
    whole = rows.filter(kind=Evidence.Kind.WHOLE).order_by("-pk")
    found = Module.objects.filter(
        pk=version.module_id
    ).values_list(  # one query for a page
        ArraySubquery(alone.values_list(TOLD)),
        ArraySubquery(scores.values_list(TOLD)),
        ArraySubquery(parts.values_list(F("loss_nats") - F("reference_nats"))[:PARTS_READ]),
        Subquery(published_with(version)),
        Subquery(whole.values_list(TOLD)[:1]),
    )
    alone_told, scores_told, rises, n_published, result = found.get()
    scored = {row["task"]: {name: row[name] for name in SCORE_COLUMNS} for row in scores_told}
    tasks = [loss_told(row | scored.get(row["task"], {})) for row in alone_told]
    hurt = [rise for rise in rises if rise >= HURT_NATS]
    return EvidenceSummary(
        tasks=tuple(sorted(tasks, key=lambda task: (-(task.drop_nats or 0.0), task.task))[:TASKS_SHOWN]),
        n_parts=len(rises),
        n_hurt=len(hurt),
        mean_rise_nats=fmean(hurt) if hurt else None,
        n_published=n_published or 0,
        result=loss_told(result) if result else None,
    )


def losses_by_task(versions: Sequence[Version]) -> dict[tuple[str, int], dict[int, TaskLoss]]:
    """The losses of modules alone on the same examples: by task and number of examples, then by module's key.

    Only tasks that at least two of them were measured on.
    """
    weights = {version.module_id: version.weights_sha256 for version in versions}
    rows = Evidence.objects.filter(module__in=weights, kind=Evidence.Kind.ALONE).exclude(task="")
    found: dict[tuple[str, int], dict[int, TaskLoss]] = {}
    for row in rows.order_by("task", "n_examples"):
        if row.weights_sha256 == weights[row.module_id]:
            loss = TaskLoss(row.task, row.n_examples, row.loss_nats, row.reference_nats)
            found.setdefault((row.task, row.n_examples), {})[row.module_id] = loss
    return {asked: losses for asked, losses in found.items() if len(losses) > 1}


def measured_of(modules: Iterable[Module]) -> dict[int, Measured]:
    """What was measured with each of these modules, by key; two queries if anything was, else none."""
    asked = [module.pk for module in modules if module.has_evidence]
    if not asked:
        return {}
    current = Evidence.objects.filter(
        module__in=asked, weights_sha256=F("module__current__weights_sha256")
    ).order_by()
    best = {pk: loss_told(told) for pk, told in strongest(current).values_list("module", TOLD)}
    parts = current.filter(kind=Evidence.Kind.PART, reference_nats__isnull=False).values_list("module")
    rises = Q(loss_nats__gte=F("reference_nats") + HURT_NATS)
    counts = {
        pk: (n, n_hurt) for pk, n, n_hurt in parts.annotate(n=Count("pk"), n_hurt=Count("pk", filter=rises))
    }
    return {pk: Measured(best.get(pk), *counts.get(pk, (0, 0))) for pk in {*best, *counts}}


def strongest(rows: QuerySet[Evidence]) -> QuerySet[Evidence]:
    """Of each module one row: its published result, else the task on which it is right most often, else where
    its loss lies furthest below that of the base. Alone it shows only where it is right more often than the
    base, or has less than HELPS_BELOW of its loss."""
    is_scored = Q(kind=Evidence.Kind.WHOLE, score_percent__isnull=False)
    is_scored |= Q(kind=Evidence.Kind.SCORE, score_percent__gt=F("reference_percent"))
    helps = Q(kind=Evidence.Kind.ALONE, loss_nats__lt=HELPS_BELOW * F("reference_nats")) & ~Q(task="")
    ranks = (
        When(kind=kind, then=Value(n)) for n, kind in enumerate((Evidence.Kind.WHOLE, Evidence.Kind.SCORE))
    )
    order = (
        Case(*ranks, default=Value(2)),
        F("score_percent").desc(nulls_last=True),
        F("loss_nats") - F("reference_nats"),
        "pk",
    )
    return rows.filter(is_scored | helps).order_by("module", *order).distinct("module")


def loss_told(row: Mapping[str, Any]) -> TaskLoss:
    """Args: row: TOLD, as the database tells it."""
    return TaskLoss(*(row[name] for name in TASK_COLUMNS))


def published_with(version: Version) -> QuerySet[Any, Any]:
    """How many published modules were made from these weights, as one row."""
    children = Lineage.objects.filter(
        made_from__module=version.module_id, made_from__weights_sha256=version.weights_sha256
    ).values("child__module")
    published = Module.objects.visible_to(None).filter(pk__in=children)
    return published.order_by().annotate(all=Value(1)).values("all").annotate(n=Count("pk")).values("n")
