from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0005_share_link"),
    ]

    operations = [
        migrations.AddField(
            model_name="composition",
            name="mail_when_done",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="composition",
            name="mailed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
