"""The child's events as rows: what readers see, and what a later attempt goes on from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from django.db import transaction

from composer.models import Composition, CompositionEvent, ScreenedLoss, SearchState
from composer.task.demo_tasks import ready_made_hashes
from hub_site.jobs import leases
from hub_site.jobs.tallies import count_stages

# Events that become rows. "state" and "screened" are for whoever starts a search again, not for a reader.
KINDS_KEPT = frozenset({"stage", "warning", "base", "alone", "step", "adapter", "baseline"})

# What a later attempt goes on from. Stages, baselines and the adapter are made anew.
PROGRESS_KINDS = frozenset({"step", "state", "screened"})


@transaction.atomic
def store_events(composition: Composition, events: Sequence[Mapping[str, Any]]) -> None:
    """Rows for readers; states and losses for whoever goes on from here. All of them or none."""
    kept = [event for event in events if event["event"] in KINDS_KEPT]
    progress: dict[str, Any] = {}
    for event in kept:
        progress |= progress_of(event)
    if any(event["event"] in PROGRESS_KINDS for event in events):
        progress |= leases.PROGRESS
    if events:
        rows = [CompositionEvent(kind=event["event"], detail=detail_of(event)) for event in kept]
        leases.append_events(composition, rows, progress=progress)
    store_states(composition, [event for event in events if event["event"] == "state"])
    store_screened([event for event in events if event["event"] == "screened"], composition.owner_id)


def store_states(composition: Composition, states: Sequence[Mapping[str, Any]]) -> None:
    """Only the last state of each fit is of use."""
    last = {state["fit"]: state for state in states}
    SearchState.objects.bulk_create(
        [SearchState(composition=composition, fit=fit, state=state) for fit, state in last.items()],
        update_conflicts=True,
        unique_fields=["composition", "fit"],
        update_fields=["state"],
    )


def store_screened(screened: Sequence[Mapping[str, Any]], owner_id: int | None) -> None:
    """Whoever scored the loss of a ready-made example, it is the same loss; others stay with their owner.

    Without an account nobody keeps them.
    """
    ready_made = ready_made_hashes() if screened else frozenset()
    ScreenedLoss.objects.bulk_create(
        [
            ScreenedLoss(
                owner_id=None if example in ready_made else owner_id,
                context=event["context"],
                module_sha256=event["module"],
                example_sha256=example,
                nats=nats,
            )
            for event in sorted(screened, key=itemgetter("context", "module"))  # one order: no deadlock
            for example, nats in sorted(event["nats"].items())
            if owner_id is not None or example in ready_made
        ],
        ignore_conflicts=True,
    )


def progress_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The row's own columns that this event moves."""
    if event["event"] == "stage":
        return {"stage": event["stage"][:20], "stage_text": event.get("text", "")[:200]}
    if event["event"] != "step":
        return {}
    return {
        "steps_done": event["step"],
        "steps_planned": max(event["budget"], event["step"]),  # a step may be one more than was planned
        "best_loss": event["best_loss"],
    }


def count_stage_times(composition: Composition) -> None:
    """Count how long a finished composition waited, and how long each stage of its last attempt took."""
    asked, began, ended = Composition.objects.values_list("created_at", "started_at", "finished_at").get(
        pk=composition.pk
    )
    stages = composition.events.filter(kind="stage", generation=composition.generation)
    begun = list(stages.order_by("number").values_list("detail__stage", "at"))
    assert began is not None and ended is not None, "it is finished"  # noqa: PT018
    ends = [*(at for _, at in begun[1:]), ended]
    seconds: dict[str, float] = defaultdict(float, wait=(began - asked).total_seconds())
    for (stage, at), end in zip(begun, ends, strict=False):
        seconds[stage] += (end - at).total_seconds()
    count_stages(Composition, seconds)


def detail_of(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "event"}
