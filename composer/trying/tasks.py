"""Doors, not rooms: an id comes in, the row holds what comes out."""

from typing import Any
from uuid import UUID

from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down

from composer.trying import runner
from hub_site.celery import app

TRY_QUEUE = "try"


@app.task(ignore_result=True)
def run_tryout(tryout_id: str) -> None:
    runner.tryout_run(UUID(tryout_id))


@app.task(ignore_result=True)
def sweep_tryouts() -> None:
    """Forget what is a day old, and ring again for what waits."""
    for tryout_id in runner.sweep():
        # A bell that nobody heard in time is rung by the next sweep: let it not pile up.
        run_tryout.apply_async((str(tryout_id),), expires=runner.RING_AGAIN.total_seconds())


@celeryd_after_setup.connect
def start_launcher(sender: str, instance: Any, **_: Any) -> None:
    """Import torch in the launcher before anybody asks."""
    if TRY_QUEUE in instance.app.amqp.queues.consume_from:
        runner.remove_orphaned_folders()
        runner.launcher().start()


@worker_shutting_down.connect
def let_go(**_: Any) -> None:
    runner.stopping.set()


@worker_shutdown.connect
def stop_launcher(**_: Any) -> None:
    runner.residents().leave()
    runner.launcher().stop()
