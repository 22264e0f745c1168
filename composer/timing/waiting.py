"""How a composition that does not move stands: who is before it, and whether a worker is there for it."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from composer.models import Composition
from composer.selectors import compose_workers
from composer.timing.progress import time_words, waited_words
from composer.timing.queue import Place, place_of
from hub_site.common.clock import database_now
from hub_site.jobs.models import LEASE, Status

PICKED_UP_S = 4  # a free worker takes a job well within this
NO_WORKER = (
    "No worker{kind} has picked it up for {time}. Your request is safe: it {goes_on} by itself when a "
    "worker is back. If this lasts, tell the site's operator."
)
SILENT_WORKER = (
    "Its worker has not answered for {time}. If it is gone, another one takes over within a minute."
)


@dataclass(frozen=True)
class Waiting:
    place: Place
    seconds: int  # since a worker was seen that can take it
    was_begun: bool = False  # queued again, for its worker is gone
    is_put_off: bool = False  # for a fault of the site, and not due yet

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


def waiting_since(composition: Composition, now: datetime | None = None) -> Waiting:
    """Return how it stands in the queue, and how long no worker has been seen for it."""
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
    return Waiting(
        place,
        seconds=seconds_between(seen_at, now),
        was_begun=told_at is not None,
        is_put_off=bool(composition.put_off_reason) and composition.due_at > now,
    )


def seconds_between(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


def missing_worker_text(composition: Composition, waiting: Waiting) -> str:
    """Return that no worker is there for it, in words; empty while one is, or it waits for something else."""
    if composition.is_finished or not waiting.is_long:
        return ""
    if composition.status == Status.RUNNING:
        return SILENT_WORKER.format(time=waited_words(waiting.seconds))
    if waiting.is_put_off:
        return ""
    return NO_WORKER.format(
        kind=" with a GPU" if composition.needs_cuda else "",
        time=waited_words(waiting.seconds),
        goes_on="goes on" if waiting.was_begun else "starts",
    )
