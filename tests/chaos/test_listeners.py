"""The database restarts while two hundred follow a composition: everyone gets every event once, in order."""

import asyncio
import os
import signal
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from django.db import DatabaseError, connection

from composer.models import Composition, CompositionEvent
from hub_site.accounts.services import token_create
from hub_site.embedded.processes import wait_for
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from tests.served_site import ServedSite, served_site

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("wakes"), pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
]  # fmt: skip

LISTENERS = 200
EVENTS_BEFORE, EVENTS_AFTER = 3, 5


@pytest.fixture
def site(tmp_path) -> Iterator[ServedSite]:
    limits = {"HUB_STREAMS_MAX": "1000", "HUB_STREAMS_OF_OWNER_MAX": "1000"}
    with served_site(tmp_path / "site", **limits) as site:
        yield site


def restart_database() -> None:
    """Kill one server process: Postgres then ends all others and recovers, as after a crash."""
    sockets = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query).get("host", [""])[0]
    if not sockets.startswith("/"):
        pytest.skip("NOT TESTED: the database of these tests is another machine's")
    with psycopg.connect(host=sockets, user="postgres", dbname="postgres", autocommit=True) as superuser:
        began = superuser.execute("SELECT pg_postmaster_start_time()").fetchone()
        superuser.execute("CHECKPOINT")  # these tests' server forgets what it has not written
        os.kill(superuser.info.backend_pid, signal.SIGKILL)
    assert began
    connection.close()
    assert wait_for(is_back, timeout_s=30)


def is_back() -> bool:
    try:
        Composition.objects.exists()
    except DatabaseError:
        connection.close()
        return False
    return True


def tell(composition: Composition, count: int) -> None:
    for _ in range(count):
        detail = {"step": 1, "budget": 9, "loss": 1.0, "best_loss": 1.0, "weights": [0.5]}
        leases.append_events(composition, [CompositionEvent(kind="step", detail=detail)])


class Listener:
    """One client that follows the stream, and comes back with the last number it has when it is cut off."""

    def __init__(self, site: ServedSite, path: str, token: str) -> None:
        self.site, self.path, self.token = site, path, token
        self.numbers: list[int] = []
        self.reconnects = -1
        self.is_finished = False

    async def follow(self) -> None:
        while not self.is_finished:
            self.reconnects += 1
            try:
                await self.read_stream()
            except OSError:
                await asyncio.sleep(0.1)

    async def read_stream(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.site.port)
        last = f"Last-Event-ID: {self.numbers[-1]}\r\n" if self.numbers else ""
        request = (
            f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n{last}\r\n"
        )
        writer.write(request.encode())
        async for line in reader:
            text = line.decode().strip()
            if text.startswith("id: "):
                self.numbers.append(int(text.removeprefix("id: ")))
            if '"is_finished": true' in text or '"is_finished":true' in text:
                self.is_finished = True
                break
        writer.close()


def test_two_hundred_listeners_miss_nothing_while_the_database_restarts(site, ask, alice, record):
    composition = leases.claim(Composition, ask().pk, worker="tests")
    token = token_create(user=alice, label="test", scope="read")[1]
    path = f"/api/v1/compositions/{composition.pk}/stream"
    listeners = [Listener(site, path, token) for _ in range(LISTENERS)]

    async def everyone_has(count: int) -> None:
        async with asyncio.timeout(60):
            while any(len(listener.numbers) < count for listener in listeners):
                await asyncio.sleep(0.05)

    async def story() -> None:
        following = [asyncio.create_task(listener.follow()) for listener in listeners]
        await asyncio.to_thread(in_thread, lambda: tell(composition, EVENTS_BEFORE))
        await everyone_has(EVENTS_BEFORE)
        await asyncio.to_thread(in_thread, restart_database)
        await asyncio.to_thread(in_thread, lambda: tell(composition, EVENTS_AFTER))
        await everyone_has(EVENTS_BEFORE + EVENTS_AFTER)
        end = {"error_code": "deadline", "error_message": "Too long."}
        await asyncio.to_thread(in_thread, lambda: leases.finish(composition, Status.FAILED, **end))
        async with asyncio.timeout(60):
            await asyncio.gather(*following)

    connection.close()
    asyncio.run(story())
    expected = list(range(1, EVENTS_BEFORE + EVENTS_AFTER + 1))
    assert [listener.numbers for listener in listeners] == [expected] * LISTENERS
    record(listeners=LISTENERS, events=len(expected), reconnected=sum(one.reconnects for one in listeners))


def in_thread(do) -> None:
    """Run it with a connection of this thread, closed at the end."""
    try:
        do()
    finally:
        connection.close()
