"""The Celery tasks of compositions: each gets a row's id and calls the code that does the work."""

from uuid import UUID

from composer.run import mail
from composer.run import runner as run_runner
from hub_site.jobs.celery_app import app
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.worker import start_with_worker, stop_with_worker


@app.task(name="composer.tasks.run_composition", ignore_result=True)
def run_composition(composition_id: str) -> None:
    try:
        run_runner.composition_run(UUID(composition_id))
    finally:
        queue_notification_mails()


@app.task(name="composer.tasks.send_letter", ignore_result=True)
def send_notification_mail(composition_id: str) -> None:
    """On the default queue: a slow mail server must not hold up the next composition."""
    mail.send_notification_mail(UUID(composition_id))


@app.task(name="composer.tasks.sweep", ignore_result=True)
def sweep() -> None:
    """Queue compositions again that wait, and remove what workers left that are gone."""
    for composition_id in run_runner.sweep():
        # The next sweep queues it again if no worker takes it in time: expired messages do not pile up.
        run_composition.apply_async((str(composition_id),), expires=REQUEUE_AFTER.total_seconds())
    queue_notification_mails()  # of those that a sweep closed, or where the mail server was away


def queue_notification_mails() -> None:
    for composition_id in mail.mails_due():
        send_notification_mail.delay(str(composition_id))


start_with_worker("compose", run_runner.start_launcher)
stop_with_worker(run_runner.stop_launcher)
