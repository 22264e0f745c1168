"""The database's processes are stopped: connections stay open, nobody answers. Every request ends even so."""

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from hub_site.accounts.services import token_create
from hub_site.common.watched_connection import LOOK_S, QUIET_S, WatchedConnection
from hub_site.embedded.processes import wait_for
from tests.served_site import ServedSite, served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

ENDS_WITHIN_S = 15
POOL = 4  # connections of the web process
LARGE = bytes(1_100_000)  # more than comes in before the token is looked at


@pytest.fixture
def site(tmp_path) -> Iterator[ServedSite]:
    with served_site(tmp_path / "site", HUB_DATABASE_POOL=str(POOL)) as site:
        yield site


@contextlib.contextmanager
def stopped_database(*, whole: bool) -> Iterator[None]:
    """Stop the server's processes, or the one alone that takes connections."""
    sockets = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query).get("host", [""])[0]
    if not sockets.startswith("/"):
        pytest.skip("NOT TESTED: the database of these tests is another machine's")
    with psycopg.connect(host=sockets, user="postgres", dbname="postgres") as superuser:
        server = psutil.Process(superuser.info.backend_pid).parent()
    stopped = [server, *server.children()] if whole else [server]
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):  # the connection above has just ended
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def ask(site: ServedSite, path: str, token: str = "", body: bytes | None = None):
    """Return the status, the headers and how long it took, in seconds."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(site.address + path, data=body, headers=headers)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, time.monotonic() - began
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, time.monotonic() - began


def test_every_request_ends_with_503_while_the_database_is_stopped(site, alice, record):
    _, token = token_create(user=alice, label="mine", scope="write")
    composition = json.dumps({"name": "x", "examples": []}).encode()
    doors = [
        ("/modules/", "", None),
        ("/api/v1/modules", token, None),
        ("/api/v1/compositions", token, composition),
        ("/api/models/alice/french", token, None),
        ("/api/v1/modules", token, LARGE),
        ("/api/models/alice/french/commit/main", token, LARGE),
    ]
    for _ in range(2):  # warm, and with connections in the pool
        before = [ask(site, *door)[0] for door in doors]
    with ThreadPoolExecutor(4 * len(doors)) as visitors, stopped_database(whole=True):
        answers = list(visitors.map(lambda door: ask(site, *door), 4 * doors))
        health_status, _, health_s = ask(site, "/health/")
    assert [status for status, *_ in answers] == [503] * len(answers)
    assert all(int(headers["Retry-After"]) > 0 for _, headers, _ in answers)
    for (path, *_), (_, headers, _) in zip(4 * doors, answers, strict=True):
        assert not path.startswith("/api/") or headers["Content-Type"] == "application/json"
    longest_s = max(seconds for *_, seconds in answers)
    assert longest_s < ENDS_WITHIN_S
    assert (health_status, health_s < 1.5) == (503, True)
    assert wait_for(lambda: [ask(site, *door)[0] for door in doors] == before, timeout_s=30)
    record(requests=len(answers), longest_s=round(longest_s, 1), health_s=round(health_s, 2))


def test_a_statement_that_takes_long_is_left_alone_while_the_server_answers_others(db):
    with WatchedConnection.connect(os.environ["DATABASE_URL"]) as own:
        assert own.execute("SELECT 1 FROM pg_sleep(%s)", [QUIET_S + LOOK_S]).fetchone() == (1,)
