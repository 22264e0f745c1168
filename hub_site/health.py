"""GET /health/: does this web process answer, does the database answer it, and is there space on the disk?

It answers within a second, whatever hangs.
"""

import asyncio
from typing import Any

import psycopg
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from hub_site.common.disk import is_disk_low

LONGEST_S = 0.8


@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    database, disk = await asyncio.gather(within(ask_database()), within(asyncio.to_thread(look_at_disk)))
    told = {"web": "ok", "database": database or "unreachable", "disk": disk or "unreachable"}
    return JsonResponse(told, status=200 if database and disk else 503)


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


def connection_parameters() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {name: value for name, value in parameters.items() if name not in ("cursor_factory", "context")}


def look_at_disk() -> str:
    return "low" if is_disk_low() else "ok"
