"""Pages of a list by where the last one ended, not by how many rows come before: each costs the same."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import BooleanField, Expression, F, Func, QuerySet, Value

from hub_site.common.errors import Refusal
from modules_registry.models import Module

CURSOR_LENGTH_MAX = 400
READS: dict[type, Callable[[Any], Any]] = {datetime: datetime.fromisoformat, int: int, float: float, str: str}


@dataclass(frozen=True)
class Order:
    """By one value of a row, then by its key, so that no two rows are equal."""

    expression: str | Expression
    kind: type  # of the value
    is_descending: bool = True

    @property
    def value(self) -> Any:
        return F(self.expression) if isinstance(self.expression, str) else self.expression


@dataclass(frozen=True)
class KeysetPage:
    """Rows of a page, and the cursors of the pages around it; empty: there is none."""

    rows: list[Module]
    previous: str
    next: str


class RowComparison(Func):
    """(value, key) < (value, key), as an index on both compares them."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, *expressions: Any, operator: str) -> None:
        super().__init__(*expressions, template=f"((%(left)s) {operator} (%(right)s))")

    def as_sql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts = [compiler.compile(expression) for expression in self.source_expressions]
        sql = [part for part, _ in parts]
        template = str(self.extra["template"])
        parameters = [parameter for _, more in parts for parameter in more]
        return template % {"left": ", ".join(sql[:2]), "right": ", ".join(sql[2:])}, parameters


def keyset_page(
    found: QuerySet[Module],
    order: Order,
    cursor: str,
    size: int,
    *,
    name: str,
    shown: Callable[[QuerySet[Module]], QuerySet[Module]],
    most: int | None = None,
) -> KeysetPage:
    """One page of what was found.

    Args:
        cursor: of this list, as an earlier page told it; empty: the first page.
        name: of the order; a cursor of another one is refused.
        shown: adds to rows what is shown of them.
        most: as in `first_keys`.

    Raises:
        Refusal: that is no cursor of this list.
    """
    place = read_cursor(cursor, name, order.kind) if cursor else None
    is_back = place is not None and place[0] == "previous"
    after = place[1:] if place else None
    keys = first_keys(found, order, size + 1, most=most, after=after, is_back=is_back)
    has_more = len(keys) > size
    keys = keys[:size]
    if is_back:
        keys.reverse()
    listed = rows_in_order(shown(Module.objects.annotate(sort_value=order.value)), keys)
    if not listed:
        return KeysetPage([], "", "")
    has_previous = has_more if is_back else place is not None
    has_next = is_back or has_more
    return KeysetPage(
        listed,
        cursor_at(listed[0], "previous", name) if has_previous else "",
        cursor_at(listed[-1], "next", name) if has_next else "",
    )


def rows_in_order(shown: QuerySet[Module], keys: Sequence[int]) -> list[Module]:
    """The rows with these keys, in their order; those that are gone are left out."""
    by_key = {row.pk: row for row in shown.filter(pk__in=keys)}
    return [by_key[key] for key in keys if key in by_key]


def first_keys(
    found: QuerySet[Module],
    order: Order,
    count: int,
    *,
    most: int | None = None,
    after: tuple[Any, int] | None = None,
    is_back: bool = False,
) -> list[int]:
    """The keys of the first rows in an order.

    Args:
        most: so many rows are found at most, and they are found before they are put in order. Without it the
            index of the order is read, and each row of it is held against the search until there are enough:
            that is fast where many match, and reads the whole library where few do.
        after: value and key of the row to begin behind.
        is_back: against the order, away from that row.
    """
    is_descending = order.is_descending != is_back
    way, operator = ("DESC", "<") if is_descending else ("ASC", ">")
    rows = found.order_by().annotate(sort_value=order.value)
    if most is None:
        if after is not None:
            value, key = Value(after[0]), Value(after[1])
            rows = rows.filter(RowComparison(order.value, F("pk"), value, key, operator=operator))
        ordered = order.value.desc() if is_descending else order.value.asc()
        return list(
            rows.order_by(ordered, "-pk" if is_descending else "pk").values_list("pk", flat=True)[:count]
        )
    try:
        matched, parameters = rows.values_list("pk", "sort_value")[:most].query.sql_with_params()
    except EmptyResultSet:
        return []
    condition = f"WHERE (value, key) {operator} (%s, %s)" if after is not None else ""
    statement = (
        f"WITH matched (key, value) AS MATERIALIZED ({matched}) SELECT key FROM matched {condition} "
        f"ORDER BY value {way}, key {way} LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, *(after or ()), count])
        return [key for (key,) in cursor.fetchall()]


def cursor_at(row: Any, direction: str, name: str) -> str:
    value = row.sort_value.isoformat() if isinstance(row.sort_value, datetime) else row.sort_value
    return write_cursor([direction, name, value, row.pk])


def write_cursor(parts: list[Any]) -> str:
    text = json.dumps(parts, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, name: str, kind: type) -> tuple[str, Any, int]:
    """Direction, value and key. Raises Refusal."""
    try:
        if len(cursor) > CURSOR_LENGTH_MAX:
            raise ValueError(cursor[:80])
        parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        direction, of, value, key = parts
        if (
            direction not in ("next", "previous")
            or of != name
            or type(key) is not int
            or not 0 <= key < 2**63
        ):
            raise ValueError(cursor)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(cursor)
        read = READS[kind](value)
        if (kind is int and not -(2**63) <= read < 2**63) or (kind is datetime and read.tzinfo is None):
            raise ValueError(cursor)
        if kind is str and "\x00" in read:
            raise ValueError(cursor)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        message = "This cursor is not of this list. Start again without one."
        raise Refusal("bad_cursor", message, fields={"cursor": [message]}) from error
    return direction, read, key
