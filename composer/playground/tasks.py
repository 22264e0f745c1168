"""Doors, not rooms: an id comes in, the row holds what comes out."""

from uuid import UUID

from composer.playground import runner
from hub_site.jobs.celery_app import app
from hub_site.jobs.worker import start_with_worker, stop_with_worker


@app.task(name="composer.trying.tasks.run_tryout", ignore_result=True)
def run_tryout(tryout_id: str) -> None:
    runner.tryout_run(UUID(tryout_id))


@app.task(name="composer.trying.tasks.sweep_tryouts", ignore_result=True)
def sweep_tryouts() -> None:
    """Forget what is a day old, and ring again for what waits."""
    for tryout_id in runner.sweep():
        # A bell that nobody heard in time is rung by the next sweep: let it not pile up.
        run_tryout.apply_async((str(tryout_id),), expires=runner.REQUEUE_AFTER.total_seconds())


start_with_worker("try", runner.start_launcher)
stop_with_worker(runner.stop_launcher)
