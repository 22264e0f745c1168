"""A broker that takes connections and answers nothing must not hold a request."""

import socket
import time

import pytest
from kombu.exceptions import OperationalError

from composer.run.tasks import wake_worker
from hub_site.jobs import celery_app


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
