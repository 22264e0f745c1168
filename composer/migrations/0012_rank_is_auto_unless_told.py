"""Every composition has a rank: "auto" unless another was asked for."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0011_fill_rank"),
    ]

    operations = [
        migrations.AlterField("composition", "rank", models.CharField(default="auto", max_length=4)),
    ]
