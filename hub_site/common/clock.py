"""The database's time: machines' clocks differ, so what two of them compare is from here or by Now()."""

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """Return the time at which the database reads this question, as Now() does within a statement."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        row: tuple[datetime] = cursor.fetchone()
    return row[0]
