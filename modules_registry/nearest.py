"""Nearest rows by the cosine of their sketches, with pgvector's HNSW."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import ExpressionWrapper, FloatField, QuerySet, Value
from pgvector.django import CosineDistance

SCANNED_MAX = 20_000  # rows of the index that one search reads at most
# Sketches of one base up to which all are compared: the index would read too many of other bases first.
COMPARED_MAX = 2_000


@contextmanager
def filtered_search(base_name: str = "") -> Iterator[bool]:
    """Let the index go on until enough rows pass the filters, the nearest first, and not stop at 40.

    Args:
        base_name: of the sketches that are searched; empty: texts alone are.

    Yields:
        whether the base has so few sketches that all are to be compared.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('hnsw.iterative_scan', 'strict_order', true),"
                " set_config('hnsw.max_scan_tuples', %s, true), (SELECT count(*) FROM"
                " (SELECT 1 FROM modules_registry_sketch WHERE base_name = %s LIMIT %s) AS counted)",
                [str(SCANNED_MAX), base_name, COMPARED_MAX + 1],
            )
            (*_, count) = cursor.fetchone()
        yield count <= COMPARED_MAX


def by_cosine(rows: QuerySet[Any], vector: object, *, compares_all: bool = False) -> QuerySet[Any]:
    """The rows, the nearest first; `away` is 1 - cosine. To be read within `filtered_search`.

    Args:
        compares_all: every row that passes the filters, without the index.
    """
    away: Any = CosineDistance("vector", vector)
    order = ExpressionWrapper(away + Value(0.0), output_field=FloatField()) if compares_all else away
    nearest: QuerySet[Any] = rows.annotate(away=order).order_by("away")
    return nearest
