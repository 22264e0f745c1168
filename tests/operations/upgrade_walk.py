"""Migrate an empty database step by step, and tell after each step what the code before it can no longer do.

python -m tests.operations.upgrade_walk       on the database that DATABASE_URL names
"""

import json
import os
import sys

import django
import psycopg

COLUMNS = """
SELECT table_name, column_name, is_nullable = 'YES', character_maximum_length,
    column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS'
FROM information_schema.columns WHERE table_schema = current_schema()
"""
RULES = """
SELECT relname, conname, array(
    SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)
) FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE contype IN ('c', 'u', 'x') AND pg_class.relnamespace = current_schema()::regnamespace
"""


class Schema:
    """The database at one moment."""

    def __init__(self, database):
        self.columns = {}
        for table, column, may_be_null, length, has_default in database.execute(COLUMNS):
            self.columns.setdefault(table, {})[column] = (may_be_null, length, has_default)
        self.rules = {(table, rule): frozenset(columns) for table, rule, columns in database.execute(RULES)}


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
        for rule in after.rules.keys() - before.rules.keys():
            if rule[0] == table and after.rules[rule] & fields.keys():  # of new columns alone it is no matter
                yield f"{table} has the new rule {rule[1]}"


def broken_column(table, field, found):
    if found is None:
        yield f"{table}.{field.column} is gone"
        return
    may_be_null, length, _ = found
    if field.null and not may_be_null:
        yield f"{table}.{field.column} may no longer be empty"
    if length and field.max_length and length < field.max_length:
        yield f"{table}.{field.column} is shorter"


def is_managed(model):
    return model._meta.managed


def walk():
    """For each migration, what the code before it can no longer do."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    found, executor = {}, MigrationExecutor(connection)
    state = executor._create_project_state(with_applied_migrations=True)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        before = Schema(database)
        for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
            models = state.apps.get_models(include_auto_created=True)
            state = executor.apply_migration(state, migration)
            after = Schema(database)
            if faults := list(broken(filter(is_managed, models), before, after)):
                found[f"{migration.app_label}.{migration.name}"] = faults
            before = after
    return found


if __name__ == "__main__":
    django.setup()
    sys.stdout.write(json.dumps(walk()))
