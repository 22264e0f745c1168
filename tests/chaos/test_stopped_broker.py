"""The broker's process is stopped: connections stay open, nobody answers. Requests are taken all the same."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from composer.models import Composition
from composer.playground import runner as playground_runner
from composer.playground.models import TryOut
from hub_site.accounts.services import token_create
from hub_site.embedded import processes
from hub_site.embedded.processes import Running
from hub_site.embedded.valkey import Valkey
from hub_site.jobs.models import Status
from modules_registry.importing import runner as import_runner
from modules_registry.importing.models import ModuleImport
from tests.chaos.conftest import all_finished, times, wait_until
from tests.composer.conftest import SHOTS
from tests.composer.test_pages import filled
from tests.served_site import ServedSite, served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

ANSWERED_WITHIN_S = 6
AT_ONCE = times(10, 20)
CSRF = "a" * 32
Request = Callable[[int], urllib.request.Request]


@pytest.fixture
def broker(tmp_path) -> Iterator[Running]:
    part = Valkey.under(tmp_path / "valkey").part()
    running = processes.start(part, tmp_path / "valkey.log")
    assert processes.wait_for(part.is_ready, timeout_s=20)
    yield running
    running.popen.send_signal(signal.SIGCONT)
    processes.finish(running, deadline_s=0)


@pytest.fixture
def broker_url(broker, tmp_path) -> str:
    return Valkey.under(tmp_path / "valkey").url


@pytest.fixture
def site(broker_url, data_folder) -> Iterator[ServedSite]:
    settings = {"HUB_COMPOSITIONS_UNFINISHED_MAX": "1000", "HUB_IMPORTS_UNFINISHED_MAX": "1000"}
    with served_site(data_folder, CELERY_BROKER_URL=broker_url, **settings) as site:
        yield site


class StaysHere(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer."""

    def redirect_request(self, *_: object) -> None:
        return None


def answer_of(request: urllib.request.Request) -> tuple[int, float]:
    """Return the status, and how long it took in seconds."""
    began = time.monotonic()
    try:
        with urllib.request.build_opener(StaysHere).open(request, timeout=60) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
    return status, time.monotonic() - began


def by_api(site: ServedSite, token: str, path: str, body: Callable[[int], dict]) -> Request:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def make(number: int) -> urllib.request.Request:
        data = json.dumps(body(number)).encode()
        return urllib.request.Request(site.address + path, data=data, headers=headers)

    return make


def by_form(site: ServedSite, user: object) -> Request:
    browser = Client()
    browser.force_login(user)
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()} | {"csrftoken": CSRF}
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}

    def make(number: int) -> urllib.request.Request:
        fields = filled(form_key=f"0f{number}", seed=1000 + number) | {"csrfmiddlewaretoken": CSRF}
        data = urlencode(fields, doseq=True).encode()
        return urllib.request.Request(f"{site.address}/compositions/new/", data=data, headers=headers)

    return make


def composition(number: int) -> dict:
    return {
        "name": "x",
        "seed": number,
        "examples": [{"input": pair.input, "output": pair.output} for pair in SHOTS],
    }


def test_what_is_asked_while_the_broker_is_stopped_is_taken_at_once_and_done_afterwards(
    site, broker, broker_url, alice, modules, start_worker, record
):
    start_worker("--celery", CELERY_BROKER_URL=broker_url, HUB_DATABASE_POOL="0")
    _, token = token_create(user=alice, label="mine", scope="write")
    doors = {
        202: by_api(site, token, "/api/v1/compositions", composition),
        302: by_form(site, alice),
    }
    for status, door in doors.items():  # warm, with connections to the broker
        assert answer_of(door(0))[0] == status
    assert wait_until(all_finished, timeout_s=60)
    broker.popen.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(2 * AT_ONCE) as visitors:
        asked = [(status, door(number)) for number in range(1, AT_ONCE + 1) for status, door in doors.items()]
        answers = list(visitors.map(lambda each: answer_of(each[1]), asked))
    assert [status for status, _ in answers] == [status for status, _ in asked]
    assert Composition.objects.count() == 2 + 2 * AT_ONCE
    longest_s = max(seconds for _, seconds in answers)
    assert longest_s < ANSWERED_WITHIN_S
    broker.popen.send_signal(signal.SIGCONT)
    assert answer_of(doors[202](10_000))[0] == 202
    assert wait_until(all_finished, timeout_s=120)
    rows = set(Composition.objects.values_list("status", "crashes", "error_code"))
    assert rows == {(Status.DONE, 0, "")}
    record(requests=len(answers), longest_s=round(longest_s, 1))


def test_questions_and_imports_wait_for_the_sweep_meanwhile(site, broker, alice, module):
    _, token = token_create(user=alice, label="mine", scope="write")
    doors = [
        by_api(site, token, "/api/v1/modules/bob/upper/try", lambda number: {"input": "apple"}),
        by_api(site, token, "/api/v1/imports", lambda number: {"sources": [f"far/french-{number}"]}),
    ]
    broker.popen.send_signal(signal.SIGSTOP)
    for door in doors:
        status, seconds = answer_of(door(1))
        assert (status, seconds < ANSWERED_WITHIN_S) == (202, True)
    long_ago = timezone.now() - timedelta(minutes=2)
    TryOut.objects.update(created_at=long_ago, seen_at=timezone.now())
    ModuleImport.objects.update(updated_at=long_ago)
    assert playground_runner.sweep() == [TryOut.objects.get().pk]
    assert import_runner.sweep() == [ModuleImport.objects.get().pk]
