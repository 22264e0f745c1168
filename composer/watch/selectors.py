"""What a watching page reads: events, stages and steps."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from composer.models import Composition, CompositionEvent

EVENTS_PER_ANSWER_MAX = 500


def events_after(composition: Composition, number: int) -> QuerySet[CompositionEvent]:
    return composition.events.filter(number__gt=number)[:EVENTS_PER_ANSWER_MAX]


def events_in_parts(composition: Composition, number: int) -> Iterator[list[CompositionEvent]]:
    """All events with a higher number, in order, a list at a time; no list is empty."""
    while events := list(events_after(composition, number)):
        yield events
        if len(events) < EVENTS_PER_ANSWER_MAX:
            return
        number = events[-1].number


def events_since(composition: Composition, number: int) -> dict[str, Any]:
    """What a watcher who has the events up to `number` does not know yet."""
    events = list(events_after(composition, number))
    # Whoever reads events until it is finished must not miss the last ones: they are rows before the end is.
    finished = composition.is_finished and len(events) < EVENTS_PER_ANSWER_MAX
    return {"status": composition.status, "is_finished": finished, "events": events}


def stage_events(composition: Composition) -> list[CompositionEvent]:
    """The stages that its current attempt began, in order."""
    return list(composition.events.filter(generation=composition.generation, kind="stage"))


def last_steps(composition: Composition, count: int) -> list[CompositionEvent]:
    """The last steps of its search, in order."""
    return list(composition.events.filter(kind="step").order_by("-number")[:count])[::-1]


def attempt_span(composition: Composition) -> list[CompositionEvent]:
    """The first and the last step that its current attempt made; empty before it made one."""
    made = composition.events.filter(generation=composition.generation, kind="step")
    return [step for step in (made.first(), made.last()) if step is not None]


def base_loss(composition: Composition) -> float | None:
    """The loss of the base alone on its examples, in nats per token; None before it is known."""
    event = composition.events.filter(kind="base").last()
    return None if event is None else event.detail["loss_nats"]


def screening_results(composition: Composition) -> list[dict[str, Any]]:
    """What is known of its modules alone, best first; those known on more examples before the others."""
    known: dict[str, dict[str, Any]] = {}
    for detail in composition.events.filter(kind="alone").values_list("detail", flat=True):
        for row in detail["modules"]:
            known[row["name"]] = {**row, "is_known_whole": row["n_shots"] == detail["n_shots"]}
    return sorted(known.values(), key=alone_order)


def alone_order(row: Mapping[str, Any]) -> tuple[int, float, str]:
    loss = row["loss_nats"]
    return -row["n_shots"], math.inf if loss is None else loss, row["name"]


def modules_searched(composition: Composition) -> list[str]:
    """The names to which the weights of its steps belong, in that order; empty before the search."""
    stage = composition.events.filter(kind="stage", detail__stage="search").last()
    names: list[str] = stage.detail.get("modules", []) if stage else []
    return names


def last_weights(composition: Composition) -> list[dict[str, Any]]:
    """The weights of the step tried last, by name."""
    step = composition.events.filter(kind="step").last()
    names = modules_searched(composition)
    if step is None or len(step.detail["weights"]) != len(names):
        return []
    return [
        {"name": name, "weight": weight, "alone_loss_nats": None}
        for name, weight in zip(names, step.detail["weights"], strict=True)
    ]


def measured_baselines(composition: Composition) -> list[dict[str, Any]]:
    """The rows of the comparison so far, of its current attempt."""
    events = composition.events.filter(kind="baseline", generation=composition.generation)
    return list(events.values_list("detail", flat=True))
