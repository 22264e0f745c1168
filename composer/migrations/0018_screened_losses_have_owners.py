"""Losses of examples belong to who composed from these. Of those kept so far that is not known: they go."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def forget_losses(apps, schema_editor):
    apps.get_model("composer", "ScreenedLoss").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("composer", "0017_share_link_expires_at"),
    ]

    operations = [
        migrations.RunPython(forget_losses, migrations.RunPython.noop),
        migrations.RemoveConstraint("screenedloss", "screened_loss_once"),
        migrations.AddField(
            "screenedloss",
            "owner",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            "screenedloss",
            models.UniqueConstraint(
                fields=("example_sha256", "module_sha256", "context", "owner"),
                name="screened_loss_once",
                nulls_distinct=False,
            ),
        ),
    ]
