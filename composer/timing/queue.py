"""When a composition that waits will begin: the queue is played forward as the workers will take it."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Sum
from django.utils import timezone

from composer.models import Attempt, Composition
from composer.timing.estimates import duration_words
from hub_site.jobs.models import Status, Worker

READ_MAX = 300  # of those that wait; behind them one waits at least as long
OVERRUN = 1 / 3  # of what it has taken: left of a job at the end of its estimate and beyond, at least

Lane = tuple[int, bool]  # an account and whether the job is quick


@dataclass(frozen=True)
class WaitingJob:
    """Times are seconds from now; those before now are negative."""

    key: Any
    owner: int
    is_quick: bool
    seconds: float  # that it is likely to take
    asked_s: float
    begun_s: float | None = None  # None: no worker has begun it yet

    @property
    def lane(self) -> Lane:
        return self.owner, self.is_quick


@dataclass(frozen=True)
class Place:
    """Where a composition stands in the queue."""

    n_ahead: int  # compositions that begin before it
    wait_s: float  # until it begins

    @property
    def words(self) -> str:
        return duration_words(self.wait_s, self.wait_s)


def place_of(composition: Composition) -> Place:
    """Where a queued composition stands."""
    return look_up(composition.pk, waiting_jobs(timezone.now()))


def place_of_new(owner_id: int, seconds: float) -> Place:
    """Where a composition of so many seconds would stand if it were asked for now."""
    new = WaitingJob("new", owner_id, is_quick(seconds), seconds, asked_s=0.0)
    return look_up(new.key, [*waiting_jobs(timezone.now()), new])


def is_quick(seconds: float) -> bool:
    """Whether a job that is likely to take so long belongs into the quick lane."""
    return seconds <= settings.HUB_COMPOSE_QUICK_S


def look_up(key: Any, waiting: Sequence[WaitingJob]) -> Place:
    now = timezone.now()
    found = Worker.objects.filter(queue="compose").alive().aggregate(slots=Sum("slots"), workers=Count("pk"))
    n_slots, n_workers = found["slots"] or settings.HUB_COMPOSE_SLOTS, found["workers"] or 1
    begins = play_forward(waiting, running_jobs(now), last_served(now), n_slots, max(1, n_slots - n_workers))
    order = list(begins)
    if key not in begins:  # behind those that were read
        return Place(Composition.objects.due().count(), max(begins.values(), default=0.0))
    return Place(order.index(key), begins[key])


def waiting_jobs(now: datetime) -> list[WaitingJob]:
    rows = Composition.objects.due().order_by("created_at", "pk").values_list(
        "pk", "owner_id", "is_quick", "estimated_s", "created_at", "started_at"
    )  # fmt: skip
    return [
        WaitingJob(pk, owner, quick, seconds, (asked - now).total_seconds(),
                   (begun - now).total_seconds() if begun else None)
        for pk, owner, quick, seconds, asked, begun in rows[:READ_MAX]
    ]  # fmt: skip


def running_jobs(now: datetime) -> list[tuple[float, bool]]:
    """Seconds that each is likely to take yet, and whether it is quick."""
    rows = Composition.objects.filter(status=Status.RUNNING).values_list(
        "estimated_s", "started_at", "is_quick"
    )
    taken = [(estimated_s, (now - begun).total_seconds(), quick) for estimated_s, begun, quick in rows]
    return [(max(estimated_s - taken_s, OVERRUN * taken_s), quick) for estimated_s, taken_s, quick in taken]


def last_served(now: datetime) -> dict[Lane, float]:
    """When each account was served last in each lane, in seconds from now."""
    rows = Attempt.objects.order_by().values_list("owner", "is_quick").annotate(last=Max("began_at"))
    return {(owner, quick): (last - now).total_seconds() for owner, quick, last in rows}


def play_forward(
    waiting: Iterable[WaitingJob],
    running: Iterable[tuple[float, bool]],
    served: Mapping[Lane, float],
    n_slots: int,
    n_long_slots: int,
) -> dict[Any, float]:
    """When each waiting job begins, in seconds from now, by its key and in order.

    The rules are those of hub_site.jobs.slots and composer.timing.turns.
    """
    left, busy, served, now = list(waiting), list(running), dict(served), 0.0
    heapq.heapify(busy)
    begins: dict[Any, float] = {}

    def turn(job: WaitingJob) -> tuple[float, float]:
        if job.begun_s is not None:
            return job.begun_s, job.asked_s
        return max(job.asked_s, served.get(job.lane, job.asked_s)), job.asked_s

    while left:
        n_long = sum(not quick for _, quick in busy)
        long_ones = [job for job in left if not job.is_quick] if n_long < n_long_slots else []
        candidates = long_ones or [job for job in left if job.is_quick]
        if len(busy) < n_slots and candidates:
            job = min(candidates, key=turn)
            left.remove(job)
            begins[job.key] = now
            served[job.lane] = now
            heapq.heappush(busy, (now + job.seconds, job.is_quick))
        else:
            now = max(now, heapq.heappop(busy)[0])
    return begins
