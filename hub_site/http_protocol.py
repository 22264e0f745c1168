"""uvicorn's HTTP/1.1, with an end for connections that send no request.

uvicorn alone closes a connection that falls silent after an answer, but waits for ever for the first
request, or for the rest of its headers.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 15.0  # for the whole of a request's headers


class TimedProtocol(H11Protocol):
    """One connection. For uvicorn's option --http."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        super().connection_lost(exc)

    def watch_headers(self) -> None:
        """Let the time run while a request is awaited, from the first moment and not from the last byte."""
        if self.conn.their_state is not h11.IDLE:
            self.stop_timer()
        elif self.headers_timer is None:
            self.headers_timer = self.loop.call_later(HEADERS_S, self.transport.close)

    def stop_timer(self) -> None:
        if self.headers_timer is not None:
            self.headers_timer.cancel()
            self.headers_timer = None
