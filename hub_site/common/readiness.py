"""Which schema this version of the code needs: what a process is asked before it gets requests or jobs.

A database that is ahead is fine: the code before it runs on it (docs/operating.md, “An upgrade”).
"""

from collections.abc import Iterable
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader

APPLIED = "SELECT app, name FROM django_migrations"
COMPLETE = "ok"


@cache
def last_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app, as this version has them: (app, name). Reads every app's files once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def describe_schema(applied: Iterable[tuple[str, str]]) -> str:
    """COMPLETE, or the first migration that is missing, as “app.name”."""
    missing = sorted(last_migrations() - set(applied))
    return ".".join(missing[0]) if missing else COMPLETE


def ask_schema() -> str:
    """As `describe_schema`, of the site's database."""
    with connection.cursor() as cursor:
        cursor.execute(APPLIED)
        return describe_schema(cursor.fetchall())
