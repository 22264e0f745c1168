"""What a machine asks the web server: GET /health/, /health/live and /health/ready.

Each answers within a second, whatever hangs. A store of files that is away takes no web process out of
service: what needs no file goes on. The workers and the scheduler answer the last two by themselves,
at HUB_HEALTH_ADDRESS (hub_site.jobs.health_server).
"""

import asyncio
from typing import Any

import psycopg
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from hub_site.common.disk import is_disk_low
from hub_site.common.readiness import (
    APPLIED,
    COMPLETE,
    UNREACHABLE,
    ask_storage,
    describe_schema,
    last_migrations,
)

LONGEST_S = 0.8


@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    """Do this process, the database and the store of files answer, and is there space on the disk?"""
    database, disk, storage = await asyncio.gather(
        within(ask_database()), within(asyncio.to_thread(look_at_disk)), look_at_storage()
    )
    told = {"web": "ok", "database": database or UNREACHABLE, "disk": disk or UNREACHABLE, "storage": storage}
    return JsonResponse(told, status=200 if database and disk and storage == COMPLETE else 503)


@require_safe
async def live(request: HttpRequest) -> JsonResponse:
    """Does this process answer? If not, start it again. It asks nobody else."""
    return JsonResponse({"web": "ok"})


@require_safe
async def ready(request: HttpRequest) -> JsonResponse:
    """Can requests be sent here? The database answers and has all that this version of the site needs.

    It tells how the store of files is, too.
    """
    await asyncio.to_thread(last_migrations)  # the first time it reads files; then it is known
    schema, storage = await asyncio.gather(within(ask_schema()), look_at_storage())
    told = {
        "web": "ok",
        "database": "ok" if schema else UNREACHABLE,
        "schema": schema or "unknown",
        "storage": storage,
    }
    return JsonResponse(told, status=200 if schema == COMPLETE else 503)


async def within(question: Any) -> str | None:
    """Return the answer; None if there is an error or no answer in time."""
    try:
        async with asyncio.timeout(LONGEST_S):
            answer: str = await question
            return answer
    except (TimeoutError, OSError, psycopg.Error):
        return None


async def ask_database() -> str:
    """Ask over a connection of its own: whether one can be made is part of the question."""
    async with await psycopg.AsyncConnection.connect(**connection_parameters()) as own:
        await own.execute("SELECT 1")
    return "ok"


async def ask_schema() -> str:
    """Over a connection of its own too."""
    async with await psycopg.AsyncConnection.connect(**connection_parameters()) as own:
        found = await own.execute(APPLIED)
        return describe_schema(await found.fetchall())


def connection_parameters() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {name: value for name, value in parameters.items() if name not in ("cursor_factory", "context")}


def look_at_disk() -> str:
    return "low" if is_disk_low() else "ok"


async def look_at_storage() -> str:
    return await asyncio.to_thread(ask_storage, longest_s=LONGEST_S)
