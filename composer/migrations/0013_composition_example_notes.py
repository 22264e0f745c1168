"""A composition keeps what was not used of the examples that were brought."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0012_rank_is_auto_unless_told"),
    ]

    operations = [
        migrations.AddField("composition", "example_notes", models.JSONField(blank=True, default=list)),
    ]
