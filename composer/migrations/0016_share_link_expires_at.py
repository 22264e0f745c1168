"""A private link may end by itself."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0015_normalize_examples"),
    ]

    operations = [
        migrations.AddField("sharelink", "expires_at", models.DateTimeField(blank=True, null=True)),
    ]
