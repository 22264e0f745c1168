from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("moderation", "0002_times_by_the_database"),
    ]

    operations = [
        migrations.AlterField(
            model_name="report",
            name="reason",
            field=models.CharField(
                choices=[
                    ("harmful", "It does harm: dangerous or hateful answers, or a hidden trigger"),
                    ("rights", "It is somebody else's work, or breaks its license"),
                    ("personal", "It holds somebody's personal data"),
                    ("misleading", "It is not what it says it is"),
                    ("spam", "It is advertising, or of no use to anybody"),
                    ("other", "Something else"),
                ],
                max_length=10,
            ),
        ),
    ]
