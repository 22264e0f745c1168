"""Nearest rows by the cosine of their sketches, with pgvector's HNSW."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from pgvector.django import CosineDistance

SCANNED_MAX = 20_000  # rows of the index that one search reads at most


@contextmanager
def filtered_search() -> Iterator[None]:
    """Let the index go on until enough rows pass the filters, the nearest first, and not stop at 40."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('hnsw.iterative_scan', 'strict_order', true),"
                " set_config('hnsw.max_scan_tuples', %s, true)",
                [str(SCANNED_MAX)],
            )
        yield


def by_cosine(rows: QuerySet[Any], vector: object) -> QuerySet[Any]:
    """The rows, the nearest first; `away` is 1 - cosine. To be read within `filtered_search`."""
    nearest: QuerySet[Any] = rows.annotate(away=CosineDistance("vector", vector)).order_by("away")
    return nearest
