"""When a composition that waits will begin: the queue is played forward as the workers will take it."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from composer.models import Attempt, Composition
from composer.timing.estimates import Estimate, duration_words
from composer.timing.turns import all_in_turn, turn_key
from hub_site.common.clock import database_now
from hub_site.jobs.models import Status, Worker

NOBODY = 0  # no row's primary key
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
    served_s: float | None = None  # when its account was served last in this lane; None: not yet
    was_begun: bool = False  # it keeps its turn, whatever its account is served meanwhile
    due_s: float = 0.0  # it is put off until then

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
    """Where a queued composition stands; one that a worker took meanwhile is next, at once."""
    now = database_now()
    return look_up(composition.pk, waiting_jobs(now), now)


def place_of_new(owner_id: int | None, estimate: Estimate) -> Place:
    """Where a composition of this estimate would stand if it were asked for now.

    Args:
        owner_id: of the account or the guest; None: a visitor who has asked for nothing yet.
    """
    if not Composition.objects.filter(status__in=(Status.QUEUED, Status.RUNNING)).exists():
        return Place(0, 0.0)
    now = database_now()
    lane = (owner_id or NOBODY, is_quick(estimate))
    new = WaitingJob("new", *lane, estimate.likely_s, asked_s=0.0, served_s=last_served_s(lane, now))
    return look_up(new.key, [*waiting_jobs(now), new], now)


def is_quick(estimate: Estimate) -> bool:
    """Whether a job belongs into the quick lane: it is short even at the upper end of its estimate."""
    return estimate.high_s <= settings.HUB_COMPOSE_QUICK_S


def look_up(key: Any, waiting: Sequence[WaitingJob], now: datetime) -> Place:
    found = Worker.objects.filter(queue="compose").alive().aggregate(slots=Sum("slots"), workers=Count("pk"))
    n_slots, n_workers = found["slots"] or settings.HUB_COMPOSE_SLOTS, found["workers"] or 1
    begins = play_forward(waiting, running_jobs(now), n_slots, max(1, n_slots - n_workers))
    order = list(begins)
    if key not in begins:
        return unread_place(key, max(begins.values(), default=0.0))
    return Place(order.index(key), begins[key])


def unread_place(key: Any, wait_s: float) -> Place:
    """The place of one that was not read: behind the others that wait, or the first if a worker took it."""
    waiting = Composition.objects.filter(status=Status.QUEUED)
    found = waiting.aggregate(all=Count("pk"), this=Count("pk", filter=Q(pk=key)))
    return Place(found["all"] - 1, wait_s) if found["this"] else Place(0, 0.0)


def waiting_jobs(now: datetime) -> list[WaitingJob]:
    rows = all_in_turn().values_list(
        "pk", "owner_id", "is_quick", "estimated_s", "created_at", "served_at", "started_at", "due_at"
    )  # fmt: skip
    return [
        WaitingJob(pk, owner, quick, seconds, (asked - now).total_seconds(),
                   (served - now).total_seconds() if served else None, was_begun=begun is not None,
                   due_s=(due - now).total_seconds())
        for pk, owner, quick, seconds, asked, served, begun, due in rows[:READ_MAX]
    ]  # fmt: skip


def running_jobs(now: datetime) -> list[tuple[float, bool]]:
    """Seconds that each is likely to take yet, and whether it is quick.

    What a job has taken is counted from its present attempt: before that it may have waited.
    """
    attempts = Attempt.objects.filter(composition_id=OuterRef("pk")).order_by("-began_at")
    began = Coalesce(Subquery(attempts.values("began_at")[:1]), "started_at")
    running = Composition.objects.filter(status=Status.RUNNING).annotate(began=began)
    rows = running.values_list("estimated_s", "began", "is_quick")
    taken = [(estimated_s, (now - began_at).total_seconds(), quick) for estimated_s, began_at, quick in rows]
    return [(max(estimated_s - taken_s, OVERRUN * taken_s), quick) for estimated_s, taken_s, quick in taken]


def last_served_s(lane: Lane, now: datetime) -> float | None:
    """When an account was served last in a lane, in seconds from now; None: not yet."""
    owner, quick = lane
    last = Attempt.objects.filter(owner=owner, is_quick=quick).aggregate(last=Max("began_at"))["last"]
    return (last - now).total_seconds() if last else None


def play_forward(
    waiting: Iterable[WaitingJob],
    running: Iterable[tuple[float, bool]],
    n_slots: int,
    n_long_slots: int,
) -> dict[Any, float]:
    """When each waiting job begins, in seconds from now, by its key and in order.

    The rules are those of hub_site.jobs.slots and composer.timing.turns.
    """
    left, busy, now = list(waiting), list(running), 0.0
    served: dict[Lane, float] = {}
    heapq.heapify(busy)
    begins: dict[Any, float] = {}

    def turn(job: WaitingJob) -> tuple[Any, ...]:
        served_s = job.served_s if job.was_begun else served.get(job.lane, job.served_s)
        return turn_key(served_s, job.asked_s)

    while left:
        n_long = sum(not quick for _, quick in busy)
        due = [job for job in left if job.due_s <= now]
        long_ones = [job for job in due if not job.is_quick] if n_long < n_long_slots else []
        candidates = long_ones or [job for job in due if job.is_quick]
        if len(busy) < n_slots and candidates:
            job = min(candidates, key=turn)
            left.remove(job)
            begins[job.key] = now
            served[job.lane] = now
            heapq.heappush(busy, (now + job.seconds, job.is_quick))
        else:
            later = [job.due_s for job in left if job.due_s > now]
            now = max(now, min([*later, *(end for end, _ in busy[:1])]))
            while busy and busy[0][0] <= now:
                heapq.heappop(busy)
    return begins
