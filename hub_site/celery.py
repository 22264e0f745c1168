"""The entry point of Celery's commands: `celery --app hub_site.celery worker …`."""

import os

from hub_site.jobs.celery_app import app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub_site.settings.prod")

__all__ = ["app"]
