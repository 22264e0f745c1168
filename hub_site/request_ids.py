"""Every request has an id: in its answer's X-Request-ID, in the log, and with the jobs that it asks for."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

from hub_site.logs import belongs_to

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"x-request-id"
GIVEN = re.compile(rb"[A-Za-z0-9_-]{8,64}")  # what a proxy or a client may call its request


class RequestIds:
    """An ASGI application around another one, the outermost: what the body gate refuses has an id too."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        request = read_or_make_id(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request.encode())]}
            await send(message)

        with belongs_to(request=request):
            await self.application(scope, receive, send_with_id)


def read_or_make_id(scope: Scope) -> str:
    """The id that the request brings, if it may be one; else a new one."""
    given = dict(scope["headers"]).get(HEADER, b"")
    return given.decode("ascii") if GIVEN.fullmatch(given) else uuid4().hex
