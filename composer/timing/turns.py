"""Whose turn it is: the account that was served least recently in this lane comes first.

Accounts that were not served yet come before all others, and among equals what was asked for first. So
between two jobs of one account every other account that waits gets one. A job that was begun keeps its turn:
it counts what its account was served before.
"""

from typing import Any

from django.db.models import F, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now

from composer.models import Attempt, Composition
from hub_site.jobs.models import Status

# Attempts are kept for a day: an account that was not served within it counts as not served.
IN_TURN = (F("served_at").asc(nulls_first=True), "created_at", "pk")


def turn_key(served_s: float | None, asked_s: float) -> tuple[Any, ...]:
    """Return a sort key of the order IN_TURN, from seconds on one clock; None: not served yet."""
    return served_s is not None, served_s or 0.0, asked_s


def all_in_turn() -> QuerySet[Any]:
    """Those that wait in either lane, put off or due, the next one of each lane first, with `served_at`."""
    before = Coalesce(OuterRef("started_at"), Now())
    served = Attempt.objects.filter(
        owner=OuterRef("owner"), is_quick=OuterRef("is_quick"), began_at__lt=before
    )
    last = served.order_by().values("owner").annotate(last=Max("began_at")).values("last")
    queued = Composition.objects.filter(status=Status.QUEUED)
    in_turn: QuerySet[Any] = queued.annotate(served_at=Subquery(last))
    return in_turn.order_by(*IN_TURN)


def waiting_in_turn(*, is_quick: bool) -> QuerySet[Composition]:
    """Those of a lane that wait and are due, the next one first."""
    return all_in_turn().filter(is_quick=is_quick, due_at__lte=Now())
