"""uvicorn's HTTP/1.1, with an end for connections that hold a place and use it for nothing.

uvicorn alone closes a connection that falls silent after an answer, but waits for ever for the first
request, for the rest of its headers, and for a client that does not read its answer. And one address may
open as many connections as it likes.
"""

import asyncio
from collections import Counter
from ipaddress import ip_address, ip_network
from typing import Any

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 15.0  # for the whole of a request's headers
UNREAD_S = 60.0  # for the client to take what waits for it: at most 320 KB, so at least 5 KB/s
LOOK_S = 5.0  # so often we look whether something waits
TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\nretry-after: 15\r\n"
    b"connection: close\r\n\r\nToo many connections are open from your address. Close some.\n"
)

# One byte in a chunk costs the event loop as much as 64 KB in one. Real clients send larger chunks.
CHUNK_MEAN_BYTES, SMALL_CHUNKS_MAX = 256, 1000

connections_of: Counter[str] = Counter()  # that are open now, by the client's address


class Connection(h11.Connection):
    """Refuses a body in very many very small chunks."""

    n_chunks = body_bytes = 0  # of this request's body, so far

    def next_event(self) -> Any:
        """Raises h11.RemoteProtocolError, which uvicorn answers with 400 and the end of the connection."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.n_chunks = self.body_bytes = 0
        elif isinstance(event, h11.Data):
            self.n_chunks += event.chunk_start
            self.body_bytes += len(event.data)
            if self.n_chunks > SMALL_CHUNKS_MAX and self.body_bytes < self.n_chunks * CHUNK_MEAN_BYTES:
                raise h11.RemoteProtocolError("The body comes in too many too small chunks.")
        return event


class TimedProtocol(H11Protocol):
    """One connection. For uvicorn's option --http."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Connection(h11.SERVER, self.conn._max_incomplete_event_size)
        self.headers_timer: asyncio.TimerHandle | None = None
        self.unread_timer: asyncio.TimerHandle | None = None
        self.read_at_s = 0.0  # when it was last seen that the client reads
        self.address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        connections_of[self.address] += 1
        self.watch_headers()
        self.read_at_s = self.loop.time()
        self.watch_unread()
        if self.has_too_many():
            transport.write(TOO_MANY)
            transport.close()

    def has_too_many(self) -> bool:
        """Whether this is one more than its address may have; a reverse proxy may have all."""
        most = settings.HUB_CONNECTIONS_OF_ADDRESS_MAX
        if not most or connections_of[self.address] <= most:
            return False
        return not (self.config.proxy_headers and is_proxy(self.address, self.config.forwarded_allow_ips))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.watch_headers()

    def resume_writing(self) -> None:
        """Called when the client has taken nearly all that waited for it."""
        self.read_at_s = self.loop.time()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        connections_of[self.address] -= 1
        if not connections_of[self.address]:
            del connections_of[self.address]
        self.stop_headers_timer()
        if self.unread_timer is not None:
            self.unread_timer.cancel()
        super().connection_lost(exc)

    def watch_headers(self) -> None:
        """Let the time run while a request is awaited, from the first moment and not from the last byte."""
        if self.conn.their_state is not h11.IDLE:
            self.stop_headers_timer()
        elif self.headers_timer is None:
            self.headers_timer = self.loop.call_later(HEADERS_S, self.transport.close)

    def stop_headers_timer(self) -> None:
        if self.headers_timer is not None:
            self.headers_timer.cancel()
            self.headers_timer = None

    def watch_unread(self) -> None:
        """End a connection whose client has not read for too long, also one that is closing already.

        A closing connection stays until all that waits is sent, so it may be aborted here too.
        """
        now_s = self.loop.time()
        if not self.transport.get_write_buffer_size():
            self.read_at_s = now_s
        elif now_s - self.read_at_s > UNREAD_S:
            self.logger.warning("%s did not read its answer for %.0f s", self.address, UNREAD_S)
            self.transport.abort()
            return
        self.unread_timer = self.loop.call_later(LOOK_S, self.watch_unread)


def is_proxy(address: str, proxies: list[str] | str | None) -> bool:
    """Whether an address is among those of --forwarded-allow-ips: addresses, networks, or “*” for all."""
    named = proxies.split(",") if isinstance(proxies, str) else proxies or []
    for name in filter(None, map(str.strip, named)):
        if name in ("*", address):
            return True
        try:
            if ip_address(address) in ip_network(name):
                return True
        except ValueError:  # a name, as of a Unix socket
            continue
    return False
