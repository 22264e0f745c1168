"""One example of each module's card, and how often a module answers right."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("modules_registry", "0021_synonyms")]

    operations = [
        migrations.AddField(
            model_name="module",
            name="sample_input",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=300),
        ),
        migrations.AddField(
            model_name="module",
            name="sample_output",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=300),
        ),
        migrations.AddField(
            model_name="evidence",
            name="score_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="evidence",
            name="reference_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="evidence",
            name="n_scored",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="evidence",
            name="kind",
            field=models.CharField(
                choices=[
                    ("alone", "Alone on a task"),
                    ("score", "Right answers alone on a task"),
                    ("part", "As a part of a result"),
                    ("whole", "As a published result"),
                ],
                max_length=5,
            ),
        ),
        migrations.AddConstraint(
            model_name="evidence",
            constraint=models.CheckConstraint(
                condition=models.Q(("score_percent", None), ("n_scored__gt", 0), _connector="OR"),
                name="evidence_score_of_some_examples",
            ),
        ),
    ]
