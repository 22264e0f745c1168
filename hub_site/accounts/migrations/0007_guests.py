from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_suspended_index"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="guest_until",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="guest_address",
            field=models.CharField(blank=True, db_default="", editable=False, max_length=64),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(
                condition=models.Q(("guest_until__isnull", False)), fields=["guest_until"], name="user_guest"
            ),
        ),
    ]
