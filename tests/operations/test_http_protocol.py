"""A connection that sends no request is closed in front of Django."""

import asyncio
import time

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from hub_site import http_protocol
from hub_site.http_protocol import TimedProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def say_yes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"yes"})


async def answer_to(pieces, pause_s, application=say_yes):
    """Send the pieces with pauses to a real socket; return all that comes back until it is closed."""
    config, state = Config(application, timeout_keep_alive=60, log_config=None), ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TimedProtocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            if reader.at_eof():
                break
            writer.write(piece)
            await asyncio.sleep(pause_s)
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    return received


@pytest.mark.parametrize(
    ("pieces", "pause_s", "answers"),
    [
        ([], 0, 0),  # nothing at all
        ([REQUEST[:20]], 0, 0),  # the beginning, and no more
        ([REQUEST[place : place + 1] for place in range(20)], 0.02, 0),  # a byte from time to time
        ([REQUEST + REQUEST[:20]], 0, 1),  # the second request is never finished
    ],
)
def test_headers_that_do_not_come_end_the_connection(monkeypatch, pieces, pause_s, answers):
    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.1)
    began_s = time.monotonic()
    assert asyncio.run(answer_to(pieces, pause_s)).count(b"yes") == answers
    assert time.monotonic() - began_s < 5


def test_a_slow_answer_is_not_cut_off(monkeypatch):
    async def say_yes_later(scope, receive, send):
        await asyncio.sleep(0.15)
        await say_yes(scope, receive, send)

    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.05)
    closing = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    assert b"yes" in asyncio.run(answer_to([closing], 0, say_yes_later))
