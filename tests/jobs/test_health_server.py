"""A worker tells over HTTP whether it should be started again, and whether it takes work."""

import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from hub_site.common import readiness
from hub_site.jobs import health_server, roles
from hub_site.jobs.worker import stopping
from hub_site.settings.env import SettingError, env_address


@pytest.fixture
def ask(db, monkeypatch):
    """The status and the body of an address of a worker's own server."""
    monkeypatch.setattr(health_server, "_live", {})
    monkeypatch.setattr(health_server, "_ready", {})
    monkeypatch.setattr(health_server, "READY", {"work": health_server.ask_stopping})
    server = ThreadingHTTPServer(("127.0.0.1", 0), health_server.Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def get(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    get.address = f"http://127.0.0.1:{server.server_port}"
    yield get
    server.shutdown()
    server.server_close()


def test_a_worker_that_is_well_is_live_and_ready(ask):
    assert ask("/health/live") == (200, {"process": "ok"})
    assert ask("/health/ready") == (200, {"process": "ok", "work": "ok"})
    assert ask("/")[0] == ask("/metrics")[0] == 404


def test_prometheus_alone_reads_the_metrics_of_the_process_and_its_disk(ask, settings, data_folder):
    address, token = ask.address, "t" * 40

    def read(**headers):
        request = urllib.request.Request(f"{address}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    settings.HUB_METRICS_TOKEN = token
    told = read(Authorization=f"Bearer {token}")
    for name in (
        'lora_hub_disk_free_bytes{folder="data"}',
        "lora_hub_disk_spare_bytes",
        "process_cpu_seconds",
    ):
        assert name in told
    assert "lora_hub_jobs_waiting" not in told  # the web processes tell what is in the database
    for sent in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {token}x"}):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            read(**sent)


def test_one_whose_place_has_ended_is_not_live_and_one_that_imports_is_not_ready(ask):
    health_server.check_live("places", lambda: "a place has ended")
    health_server.check_ready("launcher", lambda: "importing")
    assert ask("/health/live") == (503, {"process": "ok", "places": "a place has ended"})
    assert ask("/health/ready")[1]["launcher"] == "importing"


def test_one_that_is_asked_to_end_gets_no_more_work_and_is_not_killed_for_it(ask):
    stopping.set()
    try:
        assert ask("/health/ready")[0] == 503
        assert ask("/health/live")[0] == 200
    finally:
        stopping.clear()


def test_a_database_that_is_away_makes_it_unready_and_no_more(ask):
    def fail():
        raise OperationalError("away")

    health_server.check_ready("schema", fail)
    health_server.check_ready("odd", lambda: 1 / 0)
    status, told = ask("/health/ready")
    assert (status, told["schema"], told["odd"]) == (503, "database_unreachable", "broken")


def test_the_broker_of_the_tests_answers():
    assert health_server.ask_broker() == "ok"


def test_a_schema_that_lacks_a_migration_is_named_and_one_that_is_ahead_is_fine(db):
    assert readiness.ask_schema() == "ok"
    known = readiness.last_migrations()
    assert readiness.describe_schema([*known, ("jobs", "9999_later")]) == "ok"
    missing = min(known)
    assert readiness.describe_schema(known - {missing}) == ".".join(missing)


def test_a_scheduler_that_looks_no_more_is_not_live(monkeypatch):
    looked = []
    scheduler = SimpleNamespace(tick=lambda: looked.append(True) or 5.0)
    roles.note_looks(scheduler)
    assert (scheduler.tick(), looked) == (5.0, [True])
    assert roles.ask_schedule() == "ok"
    monkeypatch.setitem(roles._last_look, "s", -1e9)
    assert roles.ask_schedule() == "hangs"
    scheduler.tick()
    assert roles.ask_schedule() == "ok"


@pytest.mark.parametrize(
    ("value", "address"),
    [("0.0.0.0:9100", ("0.0.0.0", 9100)), ("[::1]:9100", ("::1", 9100)), ("", None)],
)
def test_the_address_to_listen_at(monkeypatch, value, address):
    monkeypatch.setenv("HUB_HEALTH_ADDRESS", value)
    assert env_address("HUB_HEALTH_ADDRESS") == address


@pytest.mark.parametrize("value", ["9100", ":9100", "localhost:", "localhost:99999"])
def test_an_address_without_a_host_or_a_port_is_refused(monkeypatch, value):
    monkeypatch.setenv("HUB_HEALTH_ADDRESS", value)
    with pytest.raises(SettingError, match="HUB_HEALTH_ADDRESS"):
        env_address("HUB_HEALTH_ADDRESS")
