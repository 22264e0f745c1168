import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

KINDS = [
    ("composition", "A composition is done or has failed"),
    ("import", "An import is done or has failed"),
    ("use", "Somebody composes with one of your modules"),
    ("report", "Staff have handled your abuse report"),
    ("staff", "Staff decide about something of yours"),
    ("invitation", "You are invited to an organisation"),
]


class Migration(migrations.Migration):
    initial = True

    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="MailChoice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(choices=KINDS, max_length=12)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mail_choices",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("user", "kind"), name="mail_choice_once"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(choices=KINDS, max_length=12)),
                ("about", models.CharField(max_length=120)),
                ("text", models.CharField(max_length=600)),
                ("path", models.CharField(blank=True, max_length=300)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("read_at", models.DateTimeField(blank=True, null=True)),
                ("is_mail_wanted", models.BooleanField(default=False)),
                ("mailed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notifications",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-pk"],
                "constraints": [
                    models.UniqueConstraint(fields=("user", "kind", "about"), name="notification_once"),
                ],
                "indexes": [
                    models.Index(fields=["user", "-created_at", "-id"], name="notification_of_user"),
                    models.Index(
                        condition=models.Q(("read_at", None)), fields=["user"], name="notification_unread"
                    ),
                    models.Index(
                        condition=models.Q(("is_mail_wanted", True), ("mailed_at", None)),
                        fields=["created_at"],
                        name="notification_mail_due",
                    ),
                ],
            },
        ),
    ]
