"""A composition keeps what was not used of the examples that were brought."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0013_lanes_and_attempts"),
    ]

    operations = [
        migrations.AddField("composition", "example_notes", models.JSONField(blank=True, default=list)),
    ]
