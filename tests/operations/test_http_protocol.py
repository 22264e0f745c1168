"""A connection that sends no request is closed in front of Django."""

import asyncio
import contextlib
import socket
import time
from contextlib import asynccontextmanager

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from hub_site import http_protocol
from hub_site.http_protocol import TimedProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def say_yes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"yes"})


@asynccontextmanager
async def server_of(application, **options):
    """The address of a real server, and its open connections."""
    config = Config(application, timeout_keep_alive=60, log_config=None, **options)
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: TimedProtocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname(), state.connections


async def answer_to(pieces, pause_s, application=say_yes):
    """Send the pieces with pauses to a real socket; return all that comes back until it is closed."""
    async with server_of(application) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
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


PIECE, PIECES = b"x" * 256 * 1024, 80  # 20 MB: more than the kernel keeps for a client


async def say_much(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def say_a_little_too_much(scope, receive, send):
    """Say it whole, so that nothing but the transport has it, and it closes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": PIECE * PIECES})


def slow_client(address):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.setblocking(False)
    client.send(REQUEST)
    return client


@pytest.mark.parametrize("bytes_at_once", [0, 1], ids=["nothing", "a byte from time to time"])
@pytest.mark.parametrize("application", [say_much, say_a_little_too_much], ids=["in pieces", "whole"])
def test_a_client_that_does_not_read_loses_its_place(monkeypatch, application, bytes_at_once):
    monkeypatch.setattr(http_protocol, "UNREAD_S", 0.5)
    monkeypatch.setattr(http_protocol, "LOOK_S", 0.05)

    async def watch():
        async with server_of(application) as (address, connections), asyncio.timeout(10):
            client, loop = slow_client(address), asyncio.get_running_loop()
            await loop.sock_recv(client, 1)  # the answer has begun
            assert connections
            while connections:
                if bytes_at_once:
                    await loop.sock_recv(client, bytes_at_once)
                await asyncio.sleep(0.02)
            client.close()

    asyncio.run(watch())
    assert not http_protocol.connections_of


def test_a_client_that_reads_slowly_but_reads_gets_everything(monkeypatch):
    monkeypatch.setattr(http_protocol, "UNREAD_S", 0.5)
    monkeypatch.setattr(http_protocol, "LOOK_S", 0.05)

    async def read_slowly():
        async with server_of(say_much) as (address, _), asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*address, limit=1024)
            writer.write(REQUEST)
            received, began_s = 0, time.monotonic()
            while received < len(PIECE) * PIECES and (piece := await reader.read(128 * 1024)):
                received += len(piece)
                await asyncio.sleep(0.01 if time.monotonic() - began_s < 1.5 else 0)
            writer.close()
            return received, time.monotonic() - began_s

    received, took_s = asyncio.run(read_slowly())
    assert received >= len(PIECE) * PIECES
    assert took_s > 1.5, "it read for longer than a client may go without reading"


@pytest.mark.parametrize(
    ("proxies", "are_limited"), [("", True), ("10.0.0.0/8", True), ("127.0.0.0/8", False), ("*", False)]
)
def test_one_address_holds_so_many_connections_and_a_proxy_any_number(settings, proxies, are_limited):
    settings.HUB_CONNECTIONS_OF_ADDRESS_MAX = 3

    async def connect():
        options = {"proxy_headers": bool(proxies), "forwarded_allow_ips": proxies}
        async with server_of(say_yes, **options) as (address, _), asyncio.timeout(10):
            held = [await asyncio.open_connection(*address) for _ in range(3)]
            reader, writer = await asyncio.open_connection(*address)
            writer.write(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
            answer = await reader.read()
            for _, other in [*held, (reader, writer)]:
                other.close()
            return answer

    answer = asyncio.run(connect())
    assert (b" 429 " in answer) == are_limited
    assert (b"yes" in answer) != are_limited


def test_who_closes_a_connection_may_open_another(settings):
    settings.HUB_CONNECTIONS_OF_ADDRESS_MAX = 1

    async def connect_thrice():
        async with server_of(say_yes, proxy_headers=False) as (address, connections), asyncio.timeout(10):
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
                assert b"yes" in await reader.read()
                writer.close()
                while connections:
                    await asyncio.sleep(0)

    asyncio.run(connect_thrice())


async def count_body(scope, receive, send):
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("n_bytes", "n_chunks", "status"),
    [(1, 200_000, b"400"), (100, 20_000, b"400"), (1, 900, b"200"), (300, 20_000, b"200")],
)
def test_a_body_in_very_many_very_small_chunks_is_refused(n_bytes, n_chunks, status):
    chunk = b"%x\r\n" % n_bytes + b"x" * n_bytes + b"\r\n"
    body = CHUNKED + chunk * n_chunks + b"0\r\n\r\n"

    async def post():
        async with server_of(count_body) as (address, connections), asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                writer.write(body)
                await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            while connections:
                await asyncio.sleep(0)
            return answer

    used_s = time.process_time()
    answer = asyncio.run(post())
    assert answer.startswith(b"HTTP/1.1 " + status) or (status == b"400" and not answer)
    if status == b"400":
        assert time.process_time() - used_s < 1
    else:
        assert answer.endswith(str(n_bytes * n_chunks).encode())
