"""The Celery tasks of the site's upkeep."""

from hub_site.jobs import low_disk
from hub_site.jobs.celery_app import app
from hub_site.notifications.mail import send_due_mails
from hub_site.notifications.services import old_notifications_delete


@app.task(name="hub_site.jobs.tasks.watch_disk", ignore_result=True)
def watch_disk() -> None:
    """Write to staff when the disk is nearly full."""
    low_disk.watch_disk()


@app.task(name="hub_site.jobs.tasks.mail_notifications", ignore_result=True)
def mail_notifications() -> None:
    """Send the mails of notifications that are due."""
    send_due_mails()


@app.task(name="hub_site.jobs.tasks.forget_notifications", ignore_result=True)
def forget_notifications() -> None:
    """Delete notifications that nobody reads any more."""
    old_notifications_delete()
