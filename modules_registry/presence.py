"""What is written beside a module, so that a page asks only for what there is."""

from dataclasses import dataclass

from django.db import connection

THERE_IS = """
SELECT
  EXISTS (SELECT FROM modules_registry_lineage AS line
          JOIN modules_registry_version AS version ON version.id = line.child_id
          WHERE version.module_id = %(module)s),
  EXISTS (SELECT FROM modules_registry_lineage AS line
          JOIN modules_registry_version AS version ON version.id = line.made_from_id
          WHERE version.module_id = %(module)s),
  EXISTS (SELECT FROM modules_registry_evidence WHERE module_id = %(module)s),
  EXISTS (SELECT FROM modules_registry_origin AS origin
          JOIN modules_registry_version AS version ON version.id = origin.version_id
          WHERE version.module_id = %(module)s)
"""


@dataclass(frozen=True)
class Presence:
    """Whether any version of a module has rows of these kinds, whoever may see them."""

    parents: bool  # modules it was made from
    children: bool  # modules made from it
    evidence: bool
    origin: bool  # it was imported


def presence_of(module: int) -> Presence:
    with connection.cursor() as cursor:
        cursor.execute(THERE_IS, {"module": module})
        return Presence(*cursor.fetchone())
