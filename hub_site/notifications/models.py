"""What an account is told, on its page of notifications and, by choice, by mail."""

from dataclasses import dataclass

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

ABOUT_MAX = 120  # characters
TEXT_MAX = 600  # characters
PATH_MAX = 300  # characters


class Kind(models.TextChoices):
    COMPOSITION = "composition", "A composition is done or has failed"
    IMPORT = "import", "An import is done or has failed"
    USE = "use", "Somebody composes with one of your modules"
    REPORT = "report", "Staff have handled your abuse report"
    STAFF = "staff", "Staff decide about something of yours"
    INVITATION = "invitation", "You are invited to an organization"


# Chosen by the account. Of the others the mails go out always, with what else they must say.
MAILED_BY_CHOICE = (Kind.COMPOSITION, Kind.IMPORT, Kind.USE, Kind.REPORT)


@dataclass(frozen=True)
class Notice:
    """Something to tell an account.

    Args:
        user_id: the account's key.
        about: what it is about, such as “composition:<id>”; an account is told once of a kind about it.
        text: a sentence or two.
        path: the page of it on this site; empty: there is none.
    """

    user_id: int
    kind: Kind
    about: str
    text: str
    path: str = ""


class NotificationQuerySet(models.QuerySet["Notification"]):
    def unread(self) -> "NotificationQuerySet":
        return self.filter(read_at=None)

    def mail_due(self) -> "NotificationQuerySet":
        return self.filter(is_mail_wanted=True, mailed_at=None)


class Notification(models.Model):
    """One thing that an account is told. Unread until it is marked, or the page of it is opened."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=12, choices=Kind)
    about = models.CharField(max_length=ABOUT_MAX)  # “composition:<id>”, …
    text = models.CharField(max_length=TEXT_MAX)
    path = models.CharField(max_length=PATH_MAX, blank=True)  # on this site
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    read_at = models.DateTimeField(null=True, blank=True)
    is_mail_wanted = models.BooleanField(default=False)  # as the account had chosen when it happened
    mailed_at = models.DateTimeField(null=True, blank=True)  # set before the mail is sent: never two

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["user", "kind", "about"], name="notification_once"),
        ]
        indexes = [
            models.Index(fields=["user", "-created_at", "-id"], name="notification_of_user"),
            models.Index(fields=["user"], name="notification_unread", condition=models.Q(read_at=None)),
            models.Index(
                fields=["created_at"],
                name="notification_mail_due",
                condition=models.Q(is_mail_wanted=True, mailed_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"notification {self.pk}"  # its text is its reader's, and this goes into logs


class MailChoice(models.Model):
    """An account wants a mail for each notification of a kind."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mail_choices")
    kind = models.CharField(max_length=12, choices=Kind)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "kind"], name="mail_choice_once"),
        ]

    def __str__(self) -> str:
        return f"mail of {self.kind} to account {self.user_id}"
