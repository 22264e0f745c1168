"""A private link may end by itself."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0016_has_advanced"),
    ]

    operations = [
        migrations.AddField("sharelink", "expires_at", models.DateTimeField(blank=True, null=True)),
    ]
