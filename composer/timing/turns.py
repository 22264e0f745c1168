"""Whose turn it is: the account least recently served comes first, and nobody waits for ever.

A job's turn is the moment at which it was asked for, or at which its account was served last in this lane,
whichever is later. So between two jobs of one account every other account that waits gets one, and what is
asked for later never comes before. A job that was begun keeps its turn.
"""

from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from composer.models import Attempt, Composition


def waiting_in_turn(*, is_quick: bool) -> QuerySet[Composition]:
    """Those of a lane that wait and are due, the next one first."""
    served = Attempt.objects.filter(owner=OuterRef("owner"), is_quick=is_quick).order_by().values("owner")
    last_served = Subquery(served.annotate(last=Max("began_at")).values("last"))
    waiting = Composition.objects.due().filter(is_quick=is_quick)
    turn = Coalesce("started_at", Greatest("created_at", last_served))
    in_turn: QuerySet[Composition] = waiting.annotate(turn=turn).order_by("turn", "created_at", "pk")
    return in_turn
