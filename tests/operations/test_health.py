"""/health/ tells what does not answer, and answers itself within a second."""

import socket
import time

import pytest

from hub_site import health

pytestmark = pytest.mark.django_db

WELL = {"web": "ok", "database": "ok", "disk": "ok", "storage": "ok"}


@pytest.fixture
def silent_server():
    """It takes connections and says nothing, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ask(client):
    started = time.monotonic()
    answer = client.get("/health/")
    return answer.status_code, answer.json(), time.monotonic() - started


def test_it_is_well_while_the_database_answers(client):
    status, told, _ = ask(client)
    assert (status, told) == (200, WELL)


@pytest.mark.slow
def test_it_says_within_a_second_that_the_database_hangs(client, monkeypatch, silent_server):
    monkeypatch.setattr(health, "connection_parameters", lambda: {"host": "127.0.0.1", "port": silent_server})
    ask(client)  # the first answer imports what it needs
    status, told, seconds = ask(client)
    assert (status, told) == (503, WELL | {"database": "unreachable"})
    assert seconds < 1.5  # on a busy machine


def test_it_says_that_no_database_listens(client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(health, "connection_parameters", lambda: {"host": "127.0.0.1", "port": port})
    assert ask(client)[:2] == (503, WELL | {"database": "unreachable"})


def test_it_says_that_the_disk_is_nearly_full_and_stays_in_service(client, settings):
    settings.HUB_DISK_SPARE_MB = 10**12
    assert ask(client)[:2] == (200, WELL | {"disk": "low"})


def test_it_is_live_whatever_the_database_does(client, monkeypatch):
    monkeypatch.setattr(health, "connection_parameters", lambda: {"host": "/nowhere"})
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"web": "ok"})
    assert client.get("/health/ready").status_code == 503


def test_it_is_ready_once_the_database_has_what_this_version_needs(client, monkeypatch):
    assert client.get("/health/ready").json() == {
        "web": "ok",
        "database": "ok",
        "schema": "ok",
        "storage": "ok",
    }
    monkeypatch.setattr(health, "ask_schema", answering("jobs.9999_later"))
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["schema"]) == (503, "jobs.9999_later")


def answering(text):
    async def ask():
        return text

    return ask
