"""The notification mail for a composition that is done or failed."""

from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.mail import send_mail
from django.db.models.functions import Now
from django.template.loader import render_to_string

from composer.models import Composition
from composer.run import selectors


def mails_due() -> list[UUID]:
    """The compositions whose notification mail is due."""
    return selectors.mails_due()


def send_notification_mail(composition_id: UUID) -> None:
    """Write to the owner that it is done, or failed, if they wish it; once, and harmless when it has gone."""
    wanted = Composition.objects.filter(
        pk=composition_id, mail_when_done=True, mailed_at=None, status__in=selectors.MAIL_ON_STATUS
    )
    # Marked first: if the worker dies in between, no mail is sent; otherwise there could be two.
    if not wanted.update(mailed_at=Now()):
        return
    composition = Composition.objects.select_related("owner").get(pk=composition_id)
    if not composition.owner.email:
        return
    try:
        send_mail(
            subject=" ".join(f"{composition.get_status_display()}: {composition.name}".split()),
            message=render_to_string(
                "composer/notification_mail.txt",
                {"composition": composition, "address": settings.PUBLIC_ADDRESS},
            ),
            from_email=None,
            recipient_list=[composition.owner.email],
        )
    except (OSError, SMTPException):  # nothing has gone: the sweeper tries again
        Composition.objects.filter(pk=composition_id).update(mailed_at=None)
        raise
