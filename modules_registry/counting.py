"""How many modules match a search, and how many of them have each facet value: counted in one query.

Up to `EXACT_MAX` matches the counts are exact. Above that, `LOOKED_AT_MAX` of them are counted, and every
count says “at least”; of the whole library, and of one value alone, the counts of `count_values` stand, which
are a minute old.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber

from modules_registry.models import FacetValue, Module

EXACT_MAX = 10_000
LOOKED_AT_MAX = 2_000  # of more matches than that
VALUES_MAX = 12  # of one facet
KEPT_FROM = 1_000  # matches; the counts of fewer are counted anew each time
KEPT_S = 60
KEPT_MAX = 256  # searches

# Parameters: those of the searches, then the keys of the chosen values.
VALUES = """
WITH matched AS MATERIALIZED ({matched}),
counted AS (
    SELECT value, count(*) AS n FROM ({looked_at}) AS looked_at, unnest(facets) AS value GROUP BY value
),
{others}
placed AS (
    SELECT row.facet, row.value, n,
           row_number() OVER (PARTITION BY row.facet ORDER BY n DESC, row.value) AS place,
           row.id = ANY(%s) AS is_chosen
    FROM counted JOIN modules_registry_facetvalue AS row ON row.id = counted.value
)
SELECT '' AS facet, '' AS value, count(*) AS n FROM matched
UNION ALL SELECT facet, value, n FROM placed WHERE place <= {values_max} OR is_chosen
"""
LOOKED_AT = """
    SELECT facets FROM {found}
    LIMIT (SELECT CASE WHEN count(*) > {exact_max} THEN {looked_at_max} ELSE {exact_max} END FROM {found})
"""
# The other values of a facet of which one is chosen: what each would leave in its place.
OTHERS = """
UNION ALL SELECT '{replaces}{facet}', '', count(*) FROM others_of_{facet}
UNION ALL (
    SELECT '{replaces}{facet}', row.value, count(*) FROM ({looked_at}) AS looked_at, unnest(facets) AS key
    JOIN modules_registry_facetvalue AS row ON row.id = key AND row.facet = '{facet}'
    GROUP BY row.value ORDER BY count(*) DESC, row.value LIMIT {values_max}
)
"""
VALUES_OF = """
SELECT row.value, count(*) FROM ({matched}) AS matched, unnest(facets) AS key
JOIN modules_registry_facetvalue AS row ON row.id = key AND row.facet = %s
GROUP BY row.value ORDER BY count(*) DESC, row.value LIMIT %s
"""
PLACES = 16  # more than searches that are tried one after the other
REPLACES = ">"  # before the name of a facet: its rows stand for those of the matches

Value = TypeVar("Value")
Counts = dict[str, list[tuple[str, int]]]  # by facet: values and how many have each, most first


def count_text(count: int, *, is_exact: bool) -> str:
    return f"{count:,}" if is_exact else f"{count:,}+"


@dataclass(frozen=True)
class Counted:
    """What a search was counted to be."""

    count: int  # at most EXACT_MAX
    is_exact: bool
    values: Counts
    at_least: frozenset[str] = frozenset()  # facets whose values were counted in a part of the matches

    @property
    def count_text(self) -> str:
        return count_text(self.count, is_exact=self.is_exact)


def count_matches(
    matching: QuerySet[Module],
    *,
    chosen: Sequence[int] = (),
    others: Mapping[str, QuerySet[Module]] | None = None,
) -> Counted:
    """Count the matches of a search by every facet.

    Args:
        chosen: keys of the facet values that were asked for: they are told however rare.
        others: by facet of which one value was asked for: the same search without it.
    """
    others = others or {}
    try:
        searches = [inner_sql(found, EXACT_MAX + 1) for found in (matching, *others.values())]
    except EmptyResultSet:
        return Counted(0, True, {})
    named = zip(others, searches[1:], strict=True)
    statement = VALUES.format(
        matched=searches[0][0],
        looked_at=looked_at("matched"),
        others="".join(f"others_of_{facet} AS MATERIALIZED ({sql}),\n" for facet, (sql, _) in named),
        values_max=VALUES_MAX,
    )
    for facet in others:
        part = looked_at(f"others_of_{facet}")
        statement += OTHERS.format(facet=facet, looked_at=part, replaces=REPLACES, values_max=VALUES_MAX)
    parameters: list[Any] = [parameter for _, of_search in searches for parameter in of_search]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, list(chosen)])
        return counted_from(cursor.fetchall())


def looked_at(found: str) -> str:
    return LOOKED_AT.format(found=found, exact_max=EXACT_MAX, looked_at_max=LOOKED_AT_MAX)


def counted_from(rows: Sequence[tuple[str, str, int]]) -> Counted:
    """Read what the query told: facet, value and count; without a value: of how many matches."""
    sizes = {facet: n for facet, value, n in rows if not value}
    values: Counts = {}
    for facet, value, n in rows:
        if value:
            values.setdefault(facet, []).append((value, n))
    at_least = set(values) if sizes[""] > EXACT_MAX else set()
    for facet in [name for name in sizes if name.startswith(REPLACES)]:
        own = facet.removeprefix(REPLACES)
        values[own] = values.pop(facet, [])
        at_least = at_least | {own} if sizes[facet] > EXACT_MAX else at_least - {own}
    is_exact = sizes[""] <= EXACT_MAX
    return Counted(min(sizes[""], EXACT_MAX), is_exact, ordered(values), frozenset(at_least))


def count_first(searches: Sequence[Sequence[QuerySet[Module]]]) -> list[tuple[int, Counted]]:
    """Of each list of searches: the place of the first one that finds modules, and how many. One query.

    Where none finds any: the last place, and none.
    """
    columns: list[str] = []
    parameters: list[Any] = []
    for alternatives in searches:
        counts = []
        for i, found in enumerate(alternatives):
            try:
                sql, own = inner_sql(found, EXACT_MAX + 1)
            except EmptyResultSet:
                continue
            counts.append(f"nullif((SELECT count(*) FROM ({sql}) AS found), 0) * {PLACES} + {i}")
            parameters += own
        columns.append(f"coalesce({', '.join([*counts, str(len(alternatives) - 1)])})")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", parameters)
        pairs = [divmod(number, PLACES) for number in cursor.fetchone()]
    return [(place, Counted(min(n, EXACT_MAX), n <= EXACT_MAX, {})) for n, place in pairs]


def count_values_of(matching: QuerySet[Module], facet: str, most: int) -> list[tuple[str, int]]:
    """The values of one facet among the first EXACT_MAX matches, most first."""
    matched, parameters = inner_sql(matching, EXACT_MAX)
    with connection.cursor() as cursor:
        cursor.execute(VALUES_OF.format(matched=matched), [*parameters, facet, most])
        return list(cursor.fetchall())


def inner_sql(found: QuerySet[Module], most: int) -> tuple[str, list[Any]]:
    sql, parameters = found.order_by().values("facets")[:most].query.sql_with_params()
    return sql, list(parameters)


def ordered(values: Counts) -> Counts:
    return {facet: sorted(pairs, key=lambda pair: (-pair[1], pair[0])) for facet, pairs in values.items()}


def library_values(facets: Sequence[str]) -> Counts:
    """The commonest values of these facets in the whole library, as `count_values` last counted them."""
    place = Window(RowNumber(), partition_by=F("facet"), order_by=[F("n_modules").desc(), F("value").asc()])
    rows = FacetValue.objects.filter(n_modules__gt=0, facet__in=facets).annotate(place=place)
    values: Counts = {}
    for facet, value, n in rows.filter(place__lte=VALUES_MAX).values_list("facet", "value", "n_modules"):
        values.setdefault(facet, []).append((value, n))
    return ordered(values)


class Kept(Generic[Value]):
    """What was worked out last, for a minute. Several threads use it."""

    def __init__(self, is_kept: Callable[[Value], bool] = bool) -> None:
        self._is_kept = is_kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, tuple[float, Value]] = OrderedDict()

    def get(self, key: object, work_out: Callable[[], Value]) -> Value:
        """What is kept under a key, else worked out now."""
        with self._lock:
            found = self._kept.get(key)
        if found is not None and time.monotonic() - found[0] < KEPT_S:
            return found[1]
        value = work_out()
        if self._is_kept(value):
            with self._lock:
                self._kept[key] = time.monotonic(), value
                self._kept.move_to_end(key)
                while len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
        return value


# The counts of large searches: those of small ones are told as they are.
kept_counts = Kept[Counted](lambda counted: counted.count >= KEPT_FROM)


def library_count(viewer: object) -> Counted:
    """How many modules there are at all, for whom it asks."""
    listed = Module.objects.visible_to(viewer).published()
    return count_kept(listed, kept_as=("library", getattr(viewer, "pk", None)))


def count_kept(found: QuerySet[Module], *, kept_as: object) -> Counted:
    return kept_counts.get(kept_as, partial(count_alone, found))


def count_alone(found: QuerySet[Module]) -> Counted:
    """How many these are, without a word on their facets."""
    n = found.order_by()[: EXACT_MAX + 1].count()
    return Counted(min(n, EXACT_MAX), n <= EXACT_MAX, {})
