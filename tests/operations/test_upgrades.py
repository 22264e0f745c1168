"""A migration goes in while the version before it still runs: it must leave all that this version uses.

After each migration, every table is held against the models as they were before it. The migrations of
NEEDS_A_STOP are those for which the site is stopped first: all were made before the first release.
"""

from pathlib import Path

import psycopg
import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from tests.second_site import empty_database

NEEDS_A_STOP = Path(__file__).with_name("needs_a_stop.txt")
COLUMNS = """
SELECT table_name, column_name, is_nullable = 'YES', character_maximum_length,
    column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS'
FROM information_schema.columns WHERE table_schema = current_schema()
"""
RULES = """
SELECT relname, conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE contype IN ('c', 'u', 'x') AND pg_class.relnamespace = current_schema()::regnamespace
"""
WHAT_TO_DO = (
    "Give a new column a db_default or null=True, and take a column or a table away one version after the "
    "last code that needs it. If that cannot be, add the migration to needs_a_stop.txt."
)


class Schema:
    """The database at one moment."""

    def __init__(self, database):
        self.columns = {}
        for table, column, may_be_null, length, has_default in database.execute(COLUMNS):
            self.columns.setdefault(table, {})[column] = (may_be_null, length, has_default)
        self.rules = set(database.execute(RULES).fetchall())


def broken(models, before, after):
    """What code with these models can no longer do."""
    for model in models:
        table = model._meta.db_table
        if table not in after.columns:
            yield f"{table} is gone"
            continue
        fields = {field.column: field for field in model._meta.local_concrete_fields}
        for column, field in fields.items():
            yield from broken_column(table, field, after.columns[table].get(column))
        for column, (may_be_null, _, has_default) in after.columns[table].items():
            if column not in fields and not may_be_null and not has_default:
                yield f"{table}.{column} is new and has no default in the database"
        yield from (
            f"{table} has the new rule {rule}" for of, rule in after.rules - before.rules if of == table
        )


def broken_column(table, field, found):
    if found is None:
        yield f"{table}.{field.column} is gone"
        return
    may_be_null, length, _ = found
    if field.null and not may_be_null:
        yield f"{table}.{field.column} may no longer be empty"
    if length and field.max_length and length < field.max_length:
        yield f"{table}.{field.column} is shorter"


def walk(address):
    """For each migration, what the code before it can no longer do."""
    alias = "upgrades"
    connections.databases[alias] = {**connections.databases["default"], "NAME": address.rpartition("/")[2]}
    found = {}
    try:
        executor = MigrationExecutor(connections[alias])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        state = executor._create_project_state(with_applied_migrations=True)
        with psycopg.connect(address, autocommit=True) as database:
            before = Schema(database)
            for migration, _ in plan:
                models = [
                    model for model in state.apps.get_models(include_auto_created=True) if model._meta.managed
                ]
                state = executor.apply_migration(state, migration)
                after = Schema(database)
                faults = list(broken(filter(is_managed, models), before, after))
                if faults:
                    found[f"{migration.app_label}.{migration.name}"] = faults
                before = after
    finally:
        connections[alias].close()
        del connections.databases[alias]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_version_before_each_migration_goes_on_after_it(transactional_db):
    with empty_database("upgrades") as address:
        found = walk(address)
    declared = set(NEEDS_A_STOP.read_text(encoding="utf-8").split())
    new = {name: faults for name, faults in found.items() if name not in declared}
    assert not new, f"{new}\n{WHAT_TO_DO}"
    assert declared <= found.keys(), f"These need no stop: {declared - found.keys()}"


def is_managed(model):
    return model._meta.managed


def schema_of(**columns):
    schema = Schema.__new__(Schema)
    schema.columns, schema.rules = {"jobs_jobrequest": columns}, set()
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
    from hub_site.jobs.models import JobRequest

    before = after = schema_of(**columns)
    assert list(broken([JobRequest], before, after)) == ([fault] if fault else [])


def test_a_new_rule_and_a_table_that_is_gone_are_seen():
    from hub_site.jobs.models import JobRequest, LowDisk

    before, after = schema_of(**KEPT), schema_of(**KEPT)
    after.rules = {("jobs_jobrequest", "once")}
    assert list(broken([JobRequest, LowDisk], before, after)) == [
        "jobs_jobrequest has the new rule once", "jobs_lowdisk is gone",
    ]  # fmt: skip
