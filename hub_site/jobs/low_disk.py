"""Staff get a mail when the disk is nearly full."""

import logging
import socket
from smtplib import SMTPException

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import send_mail
from django.db.models.functions import Now
from django.template.loader import render_to_string

from hub_site.common.disk import MB, has_space_again, is_disk_low, least_free_bytes
from hub_site.jobs.models import LowDisk

logger = logging.getLogger(__name__)


def watch_disk() -> None:
    """Write to staff that this machine's disk is nearly full: once, until there was enough space again."""
    machine = socket.gethostname()
    if is_disk_low():
        LowDisk.objects.get_or_create(machine=machine)
        send_low_disk_mail(machine)
    elif has_space_again():
        LowDisk.objects.filter(machine=machine).delete()


def send_low_disk_mail(machine: str) -> None:
    """Write to all staff who have a mail address, unless that was done."""
    row = LowDisk.objects.filter(machine=machine)
    # Marked first: if the worker dies in between, no mail is sent; otherwise there could be many.
    if not row.filter(mailed_at=None).update(mailed_at=Now()):
        return
    free_mb = least_free_bytes() // MB
    logger.warning("the disk of %s is nearly full: %d MB are free", machine, free_mb)
    staff = get_user_model().objects.filter(is_staff=True, is_active=True).exclude(email="")
    found = {"machine": machine, "free_mb": free_mb, "spare_mb": settings.HUB_DISK_SPARE_MB}
    try:
        send_mail(
            subject=f"The disk of {machine} is nearly full",
            message=render_to_string(
                "jobs/low_disk_mail.txt",
                {**found, "data": settings.HUB_DATA, "address": settings.PUBLIC_ADDRESS},
            ),
            from_email=None,
            recipient_list=list(staff.values_list("email", flat=True)),
        )
    except (OSError, SMTPException):  # nothing has gone: the next look tries again
        row.update(mailed_at=None)
        raise
