"""A rank is text from now on, because it can also be "auto" and "full"."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0009_template_left_open"),
    ]

    operations = [
        migrations.AlterField("composition", "rank", models.CharField(max_length=4, null=True, blank=True)),
    ]
