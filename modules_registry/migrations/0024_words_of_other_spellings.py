"""The word for what the demo world's modules do; and words with hyphens, and what languages call themselves, to be read."""

from django.db import migrations

GROUPS = {
    "translate, translation, translator, translating": "translate, translation, translator, say the word in",
}
READ_AGAIN = """
UPDATE modules_registry_module SET indexed_at = NULL WHERE current_id IS NOT NULL AND deleted_at IS NULL
"""


def change_groups(apps, schema_editor):
    group = apps.get_model("modules_registry", "SynonymGroup")
    for before, after in GROUPS.items():
        group.objects.filter(words=before).update(words=after)


class Migration(migrations.Migration):
    dependencies = [("modules_registry", "0023_read_samples")]

    operations = [
        migrations.RunPython(change_groups, migrations.RunPython.noop),
        migrations.RunSQL(sql=READ_AGAIN, reverse_sql=migrations.RunSQL.noop),
    ]
