"""Let the samples of cards be read: `index_modules` describes what has no time of that."""

from django.db import migrations

READ_AGAIN = """
UPDATE modules_registry_module SET indexed_at = NULL WHERE current_id IS NOT NULL AND deleted_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [("modules_registry", "0022_samples_and_scores")]

    operations = [migrations.RunSQL(sql=READ_AGAIN, reverse_sql=migrations.RunSQL.noop)]
