"""What everybody may see of compositions: the example report, and those that became public modules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F

from composer.models import Composition
from composer.report.verdict import HELD_OUT, others_known, rows_by_key
from composer.selectors import USEFUL
from composer.share.example import example_links
from hub_site.jobs.models import Status
from modules_registry.models import Module

OURS, BASE_ALONE = "composed", "zero_shot"


@dataclass(frozen=True)
class Figure:
    """How often a composition is right on held-out examples, beside what it was compared with.

    Percentages from 0 to 100, with a 95 % interval.
    """

    percent: float
    low: float
    high: float
    n: int  # held-out examples
    against: float  # the best of what is no composition
    against_label: str
    base_percent: float | None  # of the base model alone

    @property
    def is_better(self) -> bool:
        return self.percent > self.against


@dataclass(frozen=True)
class ExampleShown:
    """The example report, in short."""

    name: str
    sentence: str
    base: str
    figure: Figure | None  # none: nothing was measured on held-out examples


@dataclass(frozen=True)
class PublishedShown:
    """A composition whose adapter is a public module."""

    module: Module
    by: str
    at: datetime
    n_modules: int
    helped: bool  # its verdict advises it
    figure: Figure | None


def example_shown() -> ExampleShown | None:
    """The example report in short; None while there is none."""
    link = (
        example_links()
        .defer("composition__report")
        .annotate(baselines=F("composition__report__baselines"), n=F("composition__report__n_held_out"))
        .first()
    )
    if link is None:
        return None
    made = link.composition
    return ExampleShown(made.name, made.sentence, made.base.name, figure_of(link.baselines, link.n))


def published_lately(count: int) -> list[PublishedShown]:
    """Compositions that became modules which everybody may see, the last ones first."""
    public = Module.objects.visible_to(None).published()
    rows = (
        Composition.objects.filter(status=Status.DONE, published_as__module__in=public)
        .defer("report")
        .select_related("owner", "published_as__module__namespace")
        .annotate(
            decision=F("report__verdict__decision"),
            comparison=F("report__baselines"),
            n_held_out=F("report__n_held_out"),
            composed=F("report__modules"),
        )
        .order_by("-published_as__created_at")
    )
    return [published_shown(row) for row in rows[:count]]


def published_shown(row: Any) -> PublishedShown:
    return PublishedShown(
        module=row.published_as.module,
        by=row.owner.username,
        at=row.published_as.created_at,
        n_modules=len(row.composed),
        helped=row.decision in USEFUL,
        figure=figure_of(row.comparison, row.n_held_out),
    )


def figure_of(baselines: Sequence[Mapping[str, Any]], n: int) -> Figure | None:
    """The figure of a report's comparison; None where nothing was measured on held-out examples.

    Args:
        baselines: the rows of report.json.
        n: held-out examples.
    """
    rows = rows_by_key({"baselines": baselines})
    others = others_known(rows, HELD_OUT)
    if not HELD_OUT.knows(rows, OURS) or not rows[OURS]["interval_percent"] or not others:
        return None
    percents = HELD_OUT.points_in(rows)
    best = max(others, key=percents)
    low, high = rows[OURS]["interval_percent"]
    return Figure(
        percent=percents(OURS),
        low=low,
        high=high,
        n=n,
        against=percents(best),
        against_label=rows[best]["label"],
        base_percent=percents(BASE_ALONE) if HELD_OUT.knows(rows, BASE_ALONE) else None,
    )
