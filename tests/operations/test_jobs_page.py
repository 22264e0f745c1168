"""Staff see at a glance what waits, who does it, and what failed; the API tells the same."""

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from composer.models import Composition
from composer.playground.models import TryOut
from hub_site.jobs import leases
from hub_site.jobs.models import JobRequest, Status, Worker
from tests.composer.conftest import ask, base, modules, no_flushing, wakes  # noqa: F401

pytestmark = pytest.mark.usefixtures("wakes")
REQUEST = "0123456789abcdef"
QUERIES_MAX = 12


@pytest.fixture
def world(ask, alice, base):  # noqa: F811
    """One that waits, one that runs, two that failed, and a try-out that did."""
    ask(seed=1)
    leases.claim(Composition, ask(seed=2).pk, worker="w")
    failed = [leases.claim(Composition, ask(seed=seed).pk, worker="w") for seed in (3, 4)]
    for job in failed:
        leases.finish(job, Status.FAILED, error_code="deadline", error_message="It took too long.")
    JobRequest.objects.create(job_id=failed[0].pk, request_id=REQUEST)
    TryOut.objects.create(
        owner=alice, composition=failed[0], base=base, input="my own words", template="{input}",
        max_new_tokens=4, status=Status.FAILED, error_code="crashed", error_message="The model crashed.",
        finished_at=Now(),
    )  # fmt: skip
    Worker.objects.create(name="w", queue="compose", slots=2, memory_mb=4096, has_cuda=False)
    return failed


def test_the_page_tells_queues_workers_and_failures(browser_of, staff, world):
    page = browser_of(staff).get("/staff/jobs/").content.decode()
    for told in ("Compositions, quick", "None running", "deadline", "It took too long.", REQUEST, "crashed"):
        assert told in page
    assert str(world[0].pk) in page
    assert "Fruit in capitals" not in page  # a composition's name is its owner's
    assert "my own words" not in page


def test_the_page_takes_at_most_twelve_queries(browser_of, staff, world):
    browser = browser_of(staff)
    browser.get("/staff/jobs/")
    with CaptureQueriesContext(connection) as asked:
        browser.get("/staff/jobs/")
    assert len(asked) <= QUERIES_MAX, [query["sql"][:90] for query in asked]


def test_the_api_tells_the_same(api_of, staff, world):
    told = api_of(staff).get("/api/v1/staff/jobs").json()
    lane = "compose-quick" if world[0].is_quick else "compose-long"
    queues = {queue["name"]: queue for queue in told["queues"]}
    assert (queues[lane]["waiting"], queues[lane]["running"], queues[lane]["put_off"]) == (1, 1, 0)
    assert {worker["queue"]: worker["workers"] for worker in told["workers"]} == {
        "compose": 1, "default": 0, "scheduler": 0, "transfer": 0, "try": 0,
    }  # fmt: skip
    assert [(row["queue"], row["code"], row["number"]) for row in told["failures"]] == [
        (lane, "deadline", 2), ("try", "crashed", 1),
    ]  # fmt: skip
    requests = {row["job_id"]: row["request_id"] for row in told["failed"]}
    assert len(requests) == 3
    assert (requests[str(world[0].pk)], requests[str(world[1].pk)]) == (REQUEST, "")


def test_what_is_put_off_is_shown_with_its_fault(browser_of, api_of, staff, world, ask):  # noqa: F811
    job = leases.claim(Composition, ask(seed=9).pk, worker="w")
    JobRequest.objects.create(job_id=job.pk, request_id=REQUEST[::-1])
    leases.put_off(job, code="store_unreachable", reason="The site's store of files could not be reached.")
    page = browser_of(staff).get("/staff/jobs/").content.decode()
    for told in (str(job.pk), "store of files could not be reached", REQUEST[::-1]):
        assert told in page
    told = api_of(staff).get("/api/v1/staff/jobs").json()
    (row,) = told["put_off"]
    assert (row["job_id"], row["request_id"]) == (str(job.pk), REQUEST[::-1])
    assert row["reason"] == "The site's store of files could not be reached."
    assert row["since"] < row["due_at"]
    assert sum(queue["put_off"] for queue in told["queues"]) == len(told["put_off"])


def test_what_failed_long_ago_is_not_told(api_of, staff, world):
    Composition.objects.update(finished_at="2026-01-01T00:00:00Z")
    assert [row["code"] for row in api_of(staff).get("/api/v1/staff/jobs").json()["failed"]] == ["crashed"]


def test_a_site_at_rest_has_an_empty_page(browser_of, staff):
    assert "No job failed." in browser_of(staff).get("/staff/jobs/").content.decode()


def test_the_page_is_reached_from_the_pages_of_staff(browser_of, staff, alice):
    assert 'href="/staff/jobs/"' in browser_of(staff).get("/staff/").content.decode()
    assert 'href="/staff/jobs/"' in browser_of(staff).get("/").content.decode()
    assert 'href="/staff/jobs/"' not in browser_of(alice).get("/").content.decode()
