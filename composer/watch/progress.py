"""What the page to watch a composition on shows, at the moment it is asked for."""

from datetime import datetime
from typing import Any

from composer.core.spec.choices import SEARCH_OF_AUTO
from composer.core.spec.counting import count_noun
from composer.models import Composition
from composer.report.next_steps import next_steps
from composer.report.page import BARS_MAX, baseline_rows, comparison_rows, loss_chart, weight_rows
from composer.report.verdict import verdict_view
from composer.timing.estimates import Estimate, amounts_of, seconds_by_stage
from composer.timing.progress import StageProgress, left_words, stages_of, time_words
from composer.timing.waiting import missing_worker_text, waiting_since
from composer.watch import selectors
from composer.watch.event_text import event_text
from hub_site.common.clock import database_now

ALONE_SHOWN = 12  # modules tried alone, best first
LOG_SHOWN = 200  # lines, and steps of the table, for whoever has no script
LOSS_OF_PARTS = (
    "Averaged over several fits, each without some of your examples. "
    "The report has the adapter's loss on all of them."
)
LOSS_OF_SEARCH = (
    "The objective, which may include a small penalty on large weights. "
    "The report has the adapter's loss without it."
)


def watch_view(composition: Composition) -> dict[str, Any]:
    """The whole page: where it stands, and everything that was told so far."""
    lines = list(composition.events.order_by("-number")[:LOG_SHOWN])[::-1]
    n_modules = composition.modules.count()
    return progress_view(composition) | {
        "n_modules": n_modules,
        "bars_to_come": range(min(n_modules, BARS_MAX)),
        "weights": weight_rows(selectors.last_weights(composition)),
        "steps_told": [event.detail for event in selectors.last_steps(composition, LOG_SHOWN)],
        "log": [(event.at, event_text(event)) for event in lines],
    }


def progress_view(composition: Composition) -> dict[str, Any]:
    """The part of it that the server draws anew while it runs."""
    now = database_now()
    waiting = waiting_since(composition, now)
    stages, n_measured = stages_now(composition, now)
    events = selectors.measured_baselines(composition)
    return {
        "composition": composition,
        "waiting": waiting,
        "steps": [stage_step(stage) for stage in stages],
        "time_left": left_words(stages),
        "time_basis": Estimate(0, 0, 0, n_measured).basis,
        "loss_words": loss_words(composition),
        "missing_worker": missing_worker_text(composition, waiting),
        "alone": alone_view(composition),
        "rows": baseline_rows(events),
        "comparison": comparison_rows(events),
        **actions_view(composition),
    }


def stages_now(composition: Composition, now: datetime | None = None) -> tuple[list[StageProgress], int]:
    """Its stages with their times, and how many compositions the times to come were taken from."""
    workload = amounts_of(composition)
    by_stage, n_measured = seconds_by_stage(composition.base, composition.method, workload)
    stages = stages_of(
        composition,
        stage_events=selectors.stage_events(composition),
        steps=selectors.attempt_span(composition),
        expected=by_stage,
        now=now or database_now(),
    )
    return stages, n_measured


def actions_view(composition: Composition) -> dict[str, Any]:
    """What the owner can do; `actions` names the buttons, so that they are sent anew only when others."""
    has_adapter = composition.has_adapter
    is_under_way = composition.started_at is not None and not composition.is_finished
    can_stop = is_under_way and not composition.stop_requested and not has_adapter
    return {
        "has_adapter": has_adapter,
        "can_stop": can_stop,
        "actions": f"{has_adapter:d}{can_stop:d}{composition.cancel_requested:d}",
    }


def finished_view(composition: Composition) -> dict[str, Any]:
    """How it ended, for a reader who is still on the page."""
    report = composition.report
    baselines = report["baselines"] if report else []
    return {
        "composition": composition,
        "address": composition.get_absolute_url(),
        "verdict": verdict_view(report) if report else None,
        **(next_steps(report) if report else {}),
        "rows": baseline_rows(baselines),
        "comparison": comparison_rows(baselines),
        "alone": alone_view(composition),
    }


def stage_step(stage: StageProgress) -> dict[str, str]:
    """A stage for the step bar, with a note of its time."""
    note = ""
    if stage.taken_s is not None:
        note = f"{stage.taken_s:.1f} s" if stage.taken_s >= 0.05 else "under 0.1 s"
    elif stage.is_late:
        note = "longer than estimated"
    elif stage.left_s is not None:
        note = f"{time_words(stage.left_s)} left" if stage.state == "current" else time_words(stage.left_s)
    return {"label": stage.label, "state": stage.state, "note": note}


def loss_words(composition: Composition) -> str:
    """Why the running search's loss is not the report's."""
    in_parts = composition.search == "auto" and SEARCH_OF_AUTO.get(composition.method) == "gauss-newton"
    return LOSS_OF_PARTS if in_parts else LOSS_OF_SEARCH


def alone_view(composition: Composition) -> dict[str, Any]:
    """The modules tried alone so far, best first, beside the base; which of them the search goes on with."""
    events = selectors.screening_results(composition)
    searched = set(selectors.modules_searched(composition))
    chart = loss_chart(
        [
            {
                "key": "",
                "label": row["name"],
                "detail": alone_note(row, searched),
                "few_shot_loss_nats": row["loss_nats"],
            }
            for row in events[:ALONE_SHOWN]
        ],
        "loss",
        base_loss=selectors.base_loss(composition),
    )
    return {"chart": chart, "count": len(events), "more": events[ALONE_SHOWN:]}


def alone_note(row: dict[str, Any], searched: set[str]) -> str:
    if not row["is_known_whole"]:
        return f"on {count_noun(row['n_shots'], 'example')} only"
    return "not searched further" if searched and row["name"] not in searched else ""
