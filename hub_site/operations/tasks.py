"""The Celery tasks of what looks after the site."""

from hub_site.jobs import requests
from hub_site.jobs.celery_app import app


@app.task(ignore_result=True)
def forget_old_requests() -> None:
    requests.forget_old_requests()
