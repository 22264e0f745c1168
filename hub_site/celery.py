"""The entry point of Celery's commands: `celery --app hub_site.celery worker …`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub_site.settings.prod")

from hub_site.jobs.celery_app import app  # after its settings are named: Celery sets Django up by them

__all__ = ["app"]
