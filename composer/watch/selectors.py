"""What a watching page reads: events, stages, steps, and how long a composition has waited."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, QuerySet

from composer.matching.workers import compose_workers
from composer.models import Composition, CompositionEvent
from composer.timing.progress import time_words
from composer.timing.queue import Place, place_of
from hub_site.common.clock import database_now
from hub_site.jobs.models import LEASE, Status

EVENTS_PER_ANSWER_MAX = 500


PICKED_UP_S = 4  # a free worker takes a job well within this


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


def waiting_since(composition: Composition, now: datetime | None = None) -> "Waiting":
    """How a composition that does not move stands: who is before it, how long no worker has been seen."""
    now = now or database_now()
    if composition.status == Status.RUNNING and composition.lease_until:
        seen_at = composition.lease_until - LEASE  # its worker's last beat
        return Waiting(Place(0, 0.0), seconds=seconds_between(seen_at, now))
    place = place_of(composition)
    able = compose_workers().able(has_cuda=composition.needs_cuda, memory_mb=composition.memory_mb)
    if able.alive().exists():
        return Waiting(place, seconds=0)
    last_seen = able.aggregate(last=Max("seen_at"))["last"]
    told_at = composition.events.order_by("-number").values_list("at", flat=True).first()  # it is gone
    seen_at = max(at for at in (composition.created_at, last_seen, told_at) if at)
    return Waiting(place, seconds=seconds_between(seen_at, now), was_begun=told_at is not None)


def seconds_between(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


@dataclass(frozen=True)
class Waiting:
    place: Place
    seconds: int  # since a worker was seen that can take it
    was_begun: bool = False  # queued again, for its worker is gone

    @property
    def ahead(self) -> int:
        return self.place.n_ahead

    @property
    def begins(self) -> str:
        """When it begins, in words; empty: at once."""
        return time_words(self.place.wait_s) if self.place.wait_s >= 1 else ""

    @property
    def is_long(self) -> bool:
        """A worker should have shown itself by now."""
        return self.seconds > PICKED_UP_S
