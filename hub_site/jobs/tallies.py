"""What became of jobs and how long their stages took, counted in rows: of all workers of the site together.

A count is written once the transaction it tells of is committed, in a statement of its own. So it holds no
row for others, and one that fails is in the log and changes nothing.
"""

from bisect import bisect_left
from collections.abc import Mapping
from math import inf

from django.db import connection, models, transaction

from hub_site.jobs.models import JobCount, StageTime

CODE_MAX = 60  # characters of a column
# Seconds: of a stage on the demo's base, and of a comparison on a large one.
STAGE_LIMITS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, inf)
ADD_COUNT = f"""
INSERT INTO {JobCount._meta.db_table} AS kept (kind, outcome, code, number) VALUES (%s, %s, %s, %s)
ON CONFLICT (kind, outcome, code) DO UPDATE SET number = kept.number + excluded.number
"""
ADD_TIME = f"""
INSERT INTO {StageTime._meta.db_table} AS kept (kind, stage, most_s, number, seconds)
VALUES (%s, %s, %s, 1, %s)
ON CONFLICT (kind, stage, most_s)
DO UPDATE SET number = kept.number + 1, seconds = kept.seconds + excluded.seconds
"""


def kind_of(model: type[models.Model]) -> str:
    return str(model._meta.model_name)


def count_ends(model: type[models.Model], outcome: str, code: str = "", *, number: int = 1) -> None:
    """Count attempts at jobs that ended.

    Args:
        outcome: a Status, "put_off", "crashed" or "lost".
        code: of the error or of the site's fault.
    """
    if number:
        _execute_after(ADD_COUNT, [kind_of(model), outcome, code[:CODE_MAX], number])


def count_stages(model: type[models.Model], seconds: Mapping[str, float]) -> None:
    """Count how long each stage of a finished job took."""
    for stage, taken_s in seconds.items():
        limit_s = STAGE_LIMITS_S[bisect_left(STAGE_LIMITS_S, taken_s)]
        _execute_after(ADD_TIME, [kind_of(model), stage[:20], limit_s, taken_s])


def _execute_after(statement: str, values: list[str | float]) -> None:
    # A lambda, no partial: Django logs the name of one that fails.
    transaction.on_commit(lambda: _execute(statement, values), robust=True)


def _execute(statement: str, values: list[str | float]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
