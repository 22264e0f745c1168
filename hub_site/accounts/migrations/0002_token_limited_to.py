"""A token may be limited to one owner, or to one module."""

from django.db import migrations, models

import hub_site.accounts.names


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            "apitoken",
            "limited_to",
            models.CharField(
                blank=True,
                default="",
                help_text="“owner” or “owner/name”; empty: everything.",
                max_length=2 * hub_site.accounts.names.NAME_LENGTH_MAX + 1,
            ),
            preserve_default=False,
        ),
    ]
