"""A broker that takes connections and answers nothing must not hold a request."""

import socket
import time

import pytest
from kombu.exceptions import OperationalError

from composer.run.tasks import wake_worker
from hub_site.embedded.processes import wait_for
from hub_site.jobs import celery_app


@pytest.fixture(autouse=True)
def nothing_failed_before(monkeypatch):
    monkeypatch.setattr(celery_app.app, "silent_until", 0.0)


@pytest.fixture
def silent_broker():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


def test_sending_to_a_silent_broker_is_given_up_after_one_try(silent_broker, monkeypatch):
    allowed_s = sum(celery_app.SEND_OPTIONS[name] for name in ("socket_timeout", "socket_connect_timeout"))
    assert allowed_s <= 2
    for name in ("socket_timeout", "socket_connect_timeout"):
        monkeypatch.setitem(celery_app.SEND_OPTIONS, name, 0.1)
    began = time.monotonic()
    with (
        celery_app.app.connection_for_write(silent_broker, transport="redis") as connection,
        pytest.raises(OperationalError),
    ):
        wake_worker.apply_async(connection=connection)
    assert time.monotonic() - began < 1  # a second try comes after two more


def test_a_moment_after_a_failure_nothing_is_tried_and_then_again(silent_broker, monkeypatch):
    monkeypatch.setitem(celery_app.SEND_OPTIONS, "socket_timeout", 0.2)
    monkeypatch.setattr(celery_app, "SILENT_S", 1.0)
    silent = celery_app.app.connection_for_write(silent_broker, transport="redis")
    working = celery_app.app.connection_for_write("memory://", transport="memory")
    with silent, working:
        with pytest.raises(OperationalError):
            wake_worker.apply_async(connection=silent)
        for connection in (silent, working):
            began = time.monotonic()
            with pytest.raises(OperationalError, match="a moment ago"):
                wake_worker.apply_async(connection=connection)
            assert time.monotonic() - began < 0.1
        assert wait_for(lambda: celery_app.app.silent_until < time.monotonic(), timeout_s=5)
        assert wake_worker.apply_async(connection=working).id
