"""The Celery tasks of imports: each gets a row's id and calls the code that does the work."""

from uuid import UUID

from django.conf import settings

from hub_site.jobs.celery_app import app
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.upkeep import upkeep
from hub_site.jobs.worker import stop_with_worker
from modules_registry.files.conversion import stop_launcher
from modules_registry.importing import base_runner, runner


@app.task(ignore_result=True)
def run_import(import_id: str) -> None:
    runner.import_run(UUID(import_id))


@app.task(ignore_result=True)
def run_base_import(import_id: str) -> None:
    base_runner.base_run(UUID(import_id))


@app.task(ignore_result=True)
def sweep_imports() -> None:
    """Queue imports again that wait, or whose worker is gone."""
    for import_id in runner.sweep():
        run_import.apply_async((str(import_id),), expires=REQUEUE_AFTER.total_seconds())
    for import_id in base_runner.sweep():
        run_base_import.apply_async((str(import_id),), expires=REQUEUE_AFTER.total_seconds())


upkeep.add(runner.remove_left_folders, every_s=settings.SWEEP_INTERVAL_S)
upkeep.add(base_runner.remove_old_folders, every_s=settings.SWEEP_INTERVAL_S)
stop_with_worker(stop_launcher)
