"""The Celery tasks of try-outs: each gets a row's id and calls the code that does the work."""

from uuid import UUID

from django.conf import settings

from composer.playground import runner
from hub_site.jobs.celery_app import app
from hub_site.jobs.upkeep import upkeep
from hub_site.jobs.worker import start_with_worker, stop_with_worker


@app.task(name="composer.trying.tasks.run_tryout", ignore_result=True)
def run_tryout(tryout_id: str) -> None:
    runner.tryout_run(UUID(tryout_id))


@app.task(name="composer.trying.tasks.sweep_tryouts", ignore_result=True)
def sweep_tryouts() -> None:
    """Delete try-outs that are a day old, and queue again those that wait."""
    for tryout_id in runner.sweep():
        # The next sweep queues it again if no worker takes it in time: expired messages do not pile up.
        run_tryout.apply_async((str(tryout_id),), expires=runner.REQUEUE_AFTER.total_seconds())


upkeep.add(runner.remove_orphaned_folders, every_s=settings.SWEEP_INTERVAL_S)
start_with_worker("try", runner.start_launcher)
stop_with_worker(runner.stop_launcher)
