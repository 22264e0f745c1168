"""A database that takes no changes for a while: reading goes on, and a change is asked to come back."""

import pytest

from composer.models import Composition
from hub_site.accounts.models import ApiToken
from hub_site.common.site_faults import SENTENCES
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from hub_site.jobs.work import JobKind, run_claimed
from tests.composer.test_api import ADDRESS, BODY

pytestmark = pytest.mark.usefixtures("wakes")

CHANGES = {
    "ask": lambda api, address: api.post(ADDRESS, BODY, format="json"),
    "cancel": lambda api, address: api.post(f"{address}/cancel"),
    "stop": lambda api, address: api.post(f"{address}/stop"),
    "delete": lambda api, address: api.delete(address),
}


@pytest.fixture
def composition(ask):
    return leases.claim(Composition, ask().pk, worker="w")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_told_to_come_back(read_only_database, composition, api_of, alice, change):
    api, address = api_of(alice), f"{ADDRESS}/{composition.pk}"
    if change is CHANGES["delete"]:
        leases.finish(composition, Status.CANCELLED)
    read_only_database(True)
    answer = change(api, address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_read_only")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_page_is_told_too(read_only_database, composition, browser_of, alice):
    browser = browser_of(alice)
    read_only_database(True)
    answer = browser.post(f"{composition.get_absolute_url()}cancel/")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "takes no changes just now" in answer.content.decode()
    assert browser.get(composition.get_absolute_url()).status_code == 200


@pytest.mark.parametrize(
    "address", [ADDRESS, "/api/whoami-v2", "/bob/fruit/resolve/main/adapter_model.safetensors"]
)
def test_reading_with_a_token_goes_on_and_the_token_s_use_is_noted_later(
    read_only_database, composition, api_of, alice, address
):
    api = api_of(alice)
    read_only_database(True)
    assert api.get(address).status_code == 200
    assert ApiToken.objects.get().last_used_at is None
    read_only_database(False)
    assert api.get(address).status_code == 200
    assert ApiToken.objects.get().last_used_at


def test_a_running_job_is_put_off_and_goes_on(read_only_database, composition, monkeypatch):
    put_off, tries = leases.put_off, []

    def put_off_later(*args, **options):
        tries.append(1)
        if len(tries) == 2:
            read_only_database(False)
        return put_off(*args, **options)

    def work_on(held):
        read_only_database(True)
        leases.append_events(held, [], progress={"steps_done": 1})

    monkeypatch.setattr(leases, "put_off", put_off_later)
    run_claimed(JobKind(Composition), composition, work_on)
    composition.refresh_from_db()
    assert (composition.status, composition.error_code, composition.crashes) == (Status.QUEUED, "", 0)
    assert composition.put_off_reason == SENTENCES["database_read_only"]
    assert len(tries) == 2


def test_a_job_is_left_to_the_sweep_where_it_lasts_longer_than_a_lease(
    read_only_database, composition, monkeypatch
):
    monkeypatch.setattr("hub_site.jobs.work.LEASE", leases.timedelta(seconds=0))

    def work_on(held):
        read_only_database(True)
        leases.append_events(held, [], progress={"steps_done": 1})

    with pytest.raises(Exception, match="read-only transaction"):
        run_claimed(JobKind(Composition), composition, work_on)
    read_only_database(False)
    composition.refresh_from_db()
    assert (composition.status, composition.error_code) == (Status.RUNNING, "")
    Composition.objects.update(lease_until=composition.created_at)
    assert leases.sweep(Composition) == [composition.pk]
