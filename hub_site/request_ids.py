"""Every request has an id: in its answer's X-Request-ID, in the log, and with the jobs that it asks for.

And a line in the log once it is answered; files of pages, probes and Prometheus only where they are refused.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from hub_site.common.machine_addresses import MACHINE_ADDRESSES
from hub_site.logs import belongs_to

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"x-request-id"
GIVEN = re.compile(rb"[A-Za-z0-9_-]{8,64}")  # what a proxy or a client may call its request
STATIC = "/static/"
PATH_CHARACTERS = 300
NO_ANSWER = 0  # the visitor left before it began


class RequestIds:
    """An ASGI application around another one, the outermost: what the body gate refuses has an id too."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        request, began_s, status = read_or_make_id(scope), time.perf_counter(), NO_ANSWER

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request.encode())]}
            await send(message)

        with belongs_to(request=request):
            try:
                await self.application(scope, receive, send_with_id)
            finally:
                log_answer(scope, status, 1000 * (time.perf_counter() - began_s))


def log_answer(scope: Scope, status: int, taken_ms: float) -> None:
    """Without the query, in which people search; the log shortens what opens something in a path."""
    path = str(scope["path"])
    if status < 400 and (path in MACHINE_ADDRESSES or path.startswith(STATIC)):
        return
    fields = {
        "method": scope["method"],
        "path": quote(path)[:PATH_CHARACTERS],
        "status": status,
        "ms": round(taken_ms),
    }
    told = "%(method)s %(path)s %(status)d in %(ms)d ms"
    logger.info(told, fields, extra={"fields": fields})


def read_or_make_id(scope: Scope) -> str:
    """The id that the request brings, if it may be one; else a new one."""
    given = dict(scope["headers"]).get(HEADER, b"")
    return given.decode("ascii") if GIVEN.fullmatch(given) else uuid4().hex
