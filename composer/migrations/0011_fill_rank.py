"""Compositions without a rank were written whole; that is called "full" now."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0010_rank_as_text"),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE composer_composition SET rank = 'full' WHERE rank IS NULL",
            "UPDATE composer_composition SET rank = NULL WHERE rank IN ('auto', 'full')",
        ),
    ]
