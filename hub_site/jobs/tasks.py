"""What the site does by itself for its upkeep."""

from django.conf import settings

from hub_site.jobs.celery_app import app
from hub_site.jobs.low_disk import watch_disk
from hub_site.jobs.upkeep import upkeep
from hub_site.notifications.mail import send_due_mails
from hub_site.notifications.services import old_notifications_delete

upkeep.add(watch_disk, every_s=settings.SWEEP_INTERVAL_S)


@app.task(name="hub_site.jobs.tasks.mail_notifications", ignore_result=True)
def mail_notifications() -> None:
    """Send the mails of notifications that are due."""
    send_due_mails()


@app.task(name="hub_site.jobs.tasks.forget_notifications", ignore_result=True)
def forget_notifications() -> None:
    """Delete notifications that nobody reads any more."""
    old_notifications_delete()
