"""The Celery tasks of the site's upkeep."""

from hub_site.jobs import low_disk
from hub_site.jobs.celery_app import app


@app.task(name="hub_site.jobs.tasks.watch_disk", ignore_result=True)
def watch_disk() -> None:
    """Write to staff when the disk is nearly full."""
    low_disk.watch_disk()
