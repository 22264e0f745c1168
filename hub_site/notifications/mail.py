"""The mails of notifications, for those who chose them."""

from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db.models.functions import Now
from django.template.loader import render_to_string

from hub_site.notifications.models import Notification

AT_ONCE = 100  # mails of one round
WITHIN = timedelta(days=1)  # later a mail is of no use; the page has it


def send_due_mails() -> None:
    """Mail the notifications that wait for it, the oldest first; each once.

    Raises:
        OSError or SMTPException: the mail server took none; the next round tries again.
    """
    due = Notification.objects.mail_due().filter(created_at__gt=Now() - WITHIN).order_by("created_at")
    for notification in due.select_related("user")[:AT_ONCE]:
        send_mail_of(notification)


def send_mail_of(notification: Notification) -> None:
    row = Notification.objects.mail_due().filter(pk=notification.pk)
    # Marked first: if the worker dies in between, no mail is sent; otherwise there could be two.
    if not row.update(mailed_at=Now()):
        return
    user = notification.user
    if not (user.email and user.is_active):
        return
    try:
        send_mail(
            subject=notification.get_kind_display(),
            message=render_to_string(
                "notifications/mail.txt",
                {"notification": notification, "address": settings.PUBLIC_ADDRESS},
            ),
            from_email=None,
            recipient_list=[user.email],
        )
    except (OSError, SMTPException):
        Notification.objects.filter(pk=notification.pk).update(mailed_at=None)
        raise
