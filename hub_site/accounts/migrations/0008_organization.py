from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_guests"),
    ]

    operations = [
        migrations.AlterField(
            model_name="namespace",
            name="kind",
            field=models.CharField(
                choices=[("user", "User"), ("organisation", "Organization")],
                default="user",
                max_length=12,
            ),
        ),
    ]
