"""What the web server runs: Django behind the body gate; every request has an id."""

import gc
import os
from collections.abc import Awaitable, Callable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub_site.settings.prod")
STATEMENT_TIMEOUT_S = (
    "15"  # a worker's queries have no limit; a visitor's request must not occupy the database
)
os.environ["HUB_STATEMENT_TIMEOUT_S"] = (
    os.environ.get("HUB_STATEMENT_TIMEOUT_S", "").strip() or STATEMENT_TIMEOUT_S
)
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402  the line above has set Django up
from django.urls import resolve  # noqa: E402

from hub_site.body_gate import BodyGate  # noqa: E402
from hub_site.common.disk import is_disk_low  # noqa: E402
from hub_site.jobs.celery_app import app as celery_app  # noqa: E402
from hub_site.jobs.upkeep import upkeep  # noqa: E402
from hub_site.request_handler import OneThreadHandler  # noqa: E402
from hub_site.request_ids import RequestIds  # noqa: E402
from hub_site.upload_permission import why_not  # noqa: E402

MB = 1_000_000
BASE64_GROWTH = 4 / 3
AROUND_FILES_BYTES = 1 * MB  # the other fields of an upload form, and its boundaries

upload_max_bytes = settings.HUB_UPLOAD_MAX_MB * MB + AROUND_FILES_BYTES
within_commits_mb = min(settings.HUB_REGULAR_UPLOAD_MAX_MB, settings.HUB_UPLOAD_MAX_MB)

resolve("/health/")  # imports every page now: the server listens only then, and no first request waits for it
celery_app.loader.import_default_modules()  # and with the tasks what the upkeep does
gc.freeze()  # what is loaded stays: the collector need not look through it while a request waits

site = RequestIds(
    BodyGate(
        OneThreadHandler(),
        upload_max_bytes=upload_max_bytes,
        commit_max_bytes=int((within_commits_mb * MB + AROUND_FILES_BYTES) * BASE64_GROWTH),
        in_flight_max_bytes=max(settings.HUB_UPLOADS_IN_FLIGHT_MB * MB, upload_max_bytes),
        grace_s=settings.HUB_BODY_GRACE_S,
        why_not=why_not,
        is_disk_low=is_disk_low,
    )
)


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer a request. The first one starts the upkeep: whoever only imports this looks after nothing."""
    upkeep.start()
    await site(scope, receive, send)
