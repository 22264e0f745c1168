"""A migration goes in while the version before it still runs: it must leave all that this version uses.

After each migration, every table is held against the models as they were before it. The migrations of
NEEDS_A_STOP are those for which the site is stopped first: all were made before the first release.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from hub_site.jobs.models import JobRequest, LowDisk
from tests.operations.upgrade_walk import Schema, broken
from tests.second_site import empty_database

NEEDS_A_STOP = Path(__file__).with_name("needs_a_stop.txt")
WHAT_TO_DO = (
    "Give a new column a db_default or null=True, and take a column or a table away one version after the "
    "last code that needs it. If that cannot be, add the migration to needs_a_stop.txt."
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_version_before_each_migration_goes_on_after_it(transactional_db):
    with empty_database("upgrades") as address:
        done = subprocess.run(
            [sys.executable, "-m", "tests.operations.upgrade_walk"],
            env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "hub_site.settings.test"},
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    declared = set(NEEDS_A_STOP.read_text(encoding="utf-8").split())
    new = {name: faults for name, faults in found.items() if name not in declared}
    assert not new, f"{new}\n{WHAT_TO_DO}"
    assert declared <= found.keys(), f"These need no stop: {declared - found.keys()}"


def schema_of(**columns):
    schema = Schema.__new__(Schema)
    schema.columns, schema.rules = {"jobs_jobrequest": columns}, {}
    return schema


KEPT = {"job_id": (False, None, False), "request_id": (False, 64, False), "at": (False, None, True)}


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        (KEPT, None),
        (KEPT | {"new": (True, None, False)}, None),
        (KEPT | {"new": (False, None, True)}, None),
        (
            KEPT | {"new": (False, None, False)},
            "jobs_jobrequest.new is new and has no default in the database",
        ),
        (KEPT | {"request_id": (False, 32, False)}, "jobs_jobrequest.request_id is shorter"),
        ({"job_id": (False, None, False), "at": (False, None, True)}, "jobs_jobrequest.request_id is gone"),
    ],
)
def test_what_breaks_older_code_is_seen(columns, fault):
    before = after = schema_of(**columns)
    assert list(broken([JobRequest], before, after)) == ([fault] if fault else [])


def test_a_new_rule_and_a_table_that_is_gone_are_seen():
    before, after = schema_of(**KEPT), schema_of(**KEPT)
    after.rules = {
        ("jobs_jobrequest", "once"): frozenset({"request_id"}),
        ("jobs_jobrequest", "positive"): frozenset({"new"}),
    }
    assert list(broken([JobRequest, LowDisk], before, after)) == [
        "jobs_jobrequest has the new rule once", "jobs_lowdisk is gone",
    ]  # fmt: skip
