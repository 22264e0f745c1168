import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("composer", "0002_what_can_be_asked_states_and_screened_losses"),
        ("modules_registry", "0005_lineage"),
    ]

    operations = [
        migrations.AddField(
            model_name="composition",
            name="published_as",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="composition",
                to="modules_registry.version",
            ),
        ),
    ]
