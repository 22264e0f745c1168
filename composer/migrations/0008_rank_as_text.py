"""A rank is text from now on, because it can also be "auto" and "full"."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0007_tell_who_listens"),
    ]

    operations = [
        migrations.AlterField("composition", "rank", models.CharField(max_length=4, null=True, blank=True)),
    ]
