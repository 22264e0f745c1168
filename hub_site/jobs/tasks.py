"""The Celery tasks of the site's upkeep."""

from hub_site.jobs import (
    low_disk,
    requests,
    roles,  # noqa: F401  every worker and the scheduler load this module
)
from hub_site.jobs.celery_app import app


@app.task(name="hub_site.jobs.tasks.watch_disk", ignore_result=True)
def watch_disk() -> None:
    """Write to staff when the disk is nearly full."""
    low_disk.watch_disk()


@app.task(name="hub_site.jobs.tasks.forget_old_requests", ignore_result=True)
def forget_old_requests() -> None:
    requests.forget_old_requests()
