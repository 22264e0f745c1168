"""/metrics tells Prometheus how the site stands, and tells nobody else."""

import pytest
from django.db import OperationalError
from prometheus_client.parser import text_string_to_metric_families

from composer.models import Composition
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.models import JobCount, Worker
from hub_site.jobs.tallies import ADD_TIME, _execute
from hub_site.operations import metrics as site_metrics
from tests.composer.conftest import ask, base, modules, no_flushing, wakes  # noqa: F401

TOKEN = "a token of at least thirty-two characters"
pytestmark = pytest.mark.usefixtures("wakes")


@pytest.fixture
def read(client, settings):
    """The value of each series, by its name and labels, as Prometheus reads them."""
    settings.HUB_METRICS_TOKEN = TOKEN

    def series():
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain")
        return {
            (sample.name.removeprefix("lora_hub_"), *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(answer.content.decode())
            for sample in family.samples
        }

    return series


def test_only_prometheus_and_staff_read_them(client, browser_of, alice, staff, settings):
    assert browser_of(staff).get("/metrics").status_code == 200
    assert browser_of(alice).get("/metrics").status_code == 404
    for token in ("", TOKEN):
        settings.HUB_METRICS_TOKEN = token
        for sent in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}x"}):
            assert client.get("/metrics", headers=sent).status_code == 404


@pytest.mark.parametrize("path", ["/metrics", "/health/", "/health/live", "/health/ready"])
def test_each_process_is_asked_at_its_own_address_without_tls(client, settings, path, db):
    settings.SECURE_SSL_REDIRECT, settings.HUB_METRICS_TOKEN = True, TOKEN
    headers = {"Host": "10.1.2.3:8000", "Authorization": f"Bearer {TOKEN}"}
    assert client.get(path, headers=headers).status_code == 200
    assert client.get("/", headers=headers).status_code == 400
    assert client.get("/", headers={"Host": "localhost"}).status_code == 301


def test_queues_tell_how_much_waits_and_since_when(read, ask):  # noqa: F811
    first, second, running, later = (ask(seed=seed).pk for seed in range(4))
    Composition.objects.update(is_quick=True)
    Composition.objects.filter(pk=second).update(is_quick=False)
    Composition.objects.filter(pk=first).update(due_at="2026-01-01T00:00:00Z")
    leases.claim(Composition, running, worker="w")
    leases.put_off(leases.claim(Composition, later, worker="w"), code="disk_full", reason="Full.")
    found = read()
    assert found["jobs_waiting", "compose", "compose-quick"] == 1
    assert found["jobs_waiting", "compose", "compose-long"] == 1
    assert found["jobs_running", "compose", "compose-quick"] == 1
    assert found["jobs_put_off", "compose", "compose-quick"] == 1
    assert found["jobs_oldest_wait_seconds", "compose", "compose-quick"] > 24 * 3600
    assert found["jobs_oldest_wait_seconds", "compose", "compose-long"] < 3600
    assert found["jobs_waiting", "try", "try"] == found["jobs_waiting", "mirror", "transfer"] == 0
    # Where jobs wait, as the workers are called that take them.
    assert {key[-1] for key in found if key[0] == "workers"} >= {"compose", "transfer", "try"}


def test_workers_are_counted_and_a_queue_without_one_is_zero(read, db):
    for name, queue, slots in (("a", "compose", 2), ("b", "compose", 4), ("c", "default", 2)):
        Worker.objects.create(name=name, queue=queue, slots=slots, memory_mb=0, has_cuda=False)
    Worker.objects.filter(name="c").update(seen_at="2026-01-01T00:00:00Z")
    found = read()
    assert (found["workers", "compose"], found["worker_places", "compose"]) == (2, 6)
    assert found["workers", "default"] == found["workers", "scheduler"] == 0


def test_ends_and_stages_of_jobs_are_counters_and_a_histogram(read, db):
    JobCount.objects.create(kind="composition", outcome="failed", code="deadline", number=3)
    for most_s, seconds in ((0.5, 0.3), (0.5, 0.4), (60.0, 31.0)):
        _execute(ADD_TIME, ["composition", "search", most_s, seconds])
    found = read()
    assert found["job_ends_total", "composition", "deadline", "failed"] == 3
    assert found["job_stage_seconds_bucket", "0.5", "composition", "search"] == 2
    assert found["job_stage_seconds_bucket", "30.0", "composition", "search"] == 2
    assert found["job_stage_seconds_bucket", "+Inf", "composition", "search"] == 3
    assert found["job_stage_seconds_count", "composition", "search"] == 3
    assert found["job_stage_seconds_sum", "composition", "search"] == pytest.approx(31.7)


def test_requests_are_counted_by_route_so_that_no_name_makes_a_series(read, client, modules):  # noqa: F811
    def asked():
        return {key: value for key, value in read().items() if key[0] == "requests_total"}

    before = asked()
    for name in ("first", "upper"):
        client.get(f"/bob/{name}")
    client.get("/no/such/thing/at/all")
    client.generic("BREW", "/")
    after = asked()
    grown = {
        key[1:]: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)
    }
    grown = {key: value for key, value in grown.items() if "/metrics" not in key}
    assert sorted(grown.values()) == [1, 1, 2]
    assert not any("upper" in part for key in grown for part in key)
    assert any("other" in key for key in grown)


def test_every_refusal_is_counted_by_its_code(read, db):
    before = read().get(("refusals_total", "too_odd"), 0)
    Refusal("too_odd", "This is too odd.")
    assert read()["refusals_total", "too_odd"] == before + 1


def test_disks_connections_and_streams_are_told(read, db):
    found = read()
    assert found["disk_free_bytes", "blobs"] > 0
    assert found[("disk_spare_bytes",)] == 500_000_000
    assert found[("streams_open",)] == 0
    assert sum(value for key, value in found.items() if key[0] == "database_connections") >= 1
    assert found[("database_connections_max",)] > 1


def test_without_the_database_the_process_still_tells_its_own(read, monkeypatch):
    def fail():
        raise OperationalError("away")

    monkeypatch.setattr(site_metrics, "queue_states", fail)
    found = read()
    assert found[("database_up",)] == 0
    assert any(key[0] == "process_cpu_seconds_total" for key in found)
    assert ("jobs_waiting", "try", "try") not in found
