"""The Celery task that keeps the example report."""

from composer.share import example
from hub_site.jobs.celery_app import app


@app.task(name="composer.tasks.keep_example", ignore_result=True)
def keep_example() -> None:
    example.example_keep()
