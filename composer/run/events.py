"""The child's events as rows: what readers see, and what a later attempt goes on from."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from django.db import transaction

from composer.models import Composition, CompositionEvent, ScreenedLoss, SearchState
from composer.task.demo_tasks import ready_made_hashes
from hub_site.jobs import leases

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
        "steps_planned": event["budget"],
        "best_loss": event["best_loss"],
    }


def detail_of(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "event"}
