"""The Celery tasks of compositions, and what a compose worker starts and ends with."""

from functools import partial
from uuid import UUID

from django.conf import settings

from composer.run import mail
from composer.run import runner as run_runner
from composer.run.job_folder import remove_orphaned_folders
from hub_site.jobs.celery_app import app
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.upkeep import upkeep
from hub_site.jobs.worker import start_with_worker, stop_with_worker


@app.task(name="composer.tasks.wake_worker", ignore_result=True)
def wake_worker() -> None:
    """Let the compose worker that gets this look for a job now. Which one it takes, the rows say."""
    run_runner.slots().wake()


@app.task(name="composer.tasks.send_letter", ignore_result=True)
def send_notification_mail(composition_id: str) -> None:
    """On the default queue: a slow mail server must not hold up the next composition."""
    mail.send_notification_mail(UUID(composition_id))


@app.task(name="composer.tasks.sweep", ignore_result=True)
def sweep() -> None:
    """Free compositions whose worker is gone, and queue the mails that are due."""
    if run_runner.sweep():
        wake_worker.apply_async(expires=REQUEUE_AFTER.total_seconds())
    queue_notification_mails()


def queue_notification_mails() -> None:
    for composition_id in mail.mails_due():
        send_notification_mail.delay(str(composition_id))


upkeep.add(remove_orphaned_folders, every_s=settings.SWEEP_INTERVAL_S)
start_with_worker("compose", partial(run_runner.start_worker, queue_notification_mails))
stop_with_worker(run_runner.stop_worker)
