"""The Celery tasks of the registry: each gets a row's id or nothing and calls the code that does the work."""

from uuid import UUID

from django.conf import settings

from hub_site.jobs.celery_app import app
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.upkeep import upkeep
from modules_registry import indexing, maintenance, measuring
from modules_registry.mirror import runner


@app.task(ignore_result=True)
def sync_repository(repository_id: str) -> None:
    runner.repository_sync(UUID(repository_id))


@app.task(ignore_result=True)
def sweep_repositories() -> None:
    """Queue repositories on the remote store that wait, or that were not queued yet."""
    for repository_id in runner.sweep_repositories():
        queue_sync(repository_id)


@app.task(ignore_result=True)
def look_for_repositories() -> None:
    """Find out what vanished from the Hub, or was shown or hidden there by somebody else."""
    for repository_id in runner.look_for_repositories():
        queue_sync(repository_id)


def queue_sync(repository_id: UUID) -> None:
    sync_repository.apply_async((str(repository_id),), expires=REQUEUE_AFTER.total_seconds())


@app.task(ignore_result=True)
def sweep_files() -> None:
    """Clear away files that nothing names any more, and those that the Hub keeps for us."""
    maintenance.sweep_files()


@app.task(ignore_result=True)
def measure_version(version_id: int) -> None:
    """Measure what the weights of a version do."""
    measuring.version_measure(version_id)


@app.task(ignore_result=True)
def sweep_measurements() -> None:
    """Queue the versions that are not measured yet, and fill in what older modules lack."""
    measuring.fill_in()
    for version_id in measuring.unmeasured():
        measure_version.apply_async((version_id,), expires=REQUEUE_AFTER.total_seconds())


@app.task(ignore_result=True)
def index_modules() -> None:
    """Describe for the search what a module's own change did not: after a migration, or a new base."""
    indexing.index_waiting()


@app.task(ignore_result=True)
def count_facet_values() -> None:
    indexing.count_values()


@app.task(ignore_result=True)
def count_search_words() -> None:
    indexing.count_words()


upkeep.add(maintenance.limit_cache, every_s=maintenance.LIMIT_CACHE_EVERY_S)
upkeep.add(maintenance.sweep_machine, every_s=settings.HUB_STORE_SWEEP_INTERVAL_S)
