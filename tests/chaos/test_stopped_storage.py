"""The object storage is stopped: it takes connections and answers nothing. What needs no file goes on."""

import json
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from hub_site.accounts.services import token_create
from hub_site.embedded.processes import wait_for
from modules_registry.storage import SHORT_WAITING
from tests.object_storage import bucket, object_storage, store_in  # noqa: F401  fixtures
from tests.served_site import served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

POOL = 4  # connections of the web process
VISITORS = 40
# One wait for the file, one for whether the storage answers, each to connect and to read.
ENDS_WITHIN_S = 2 * (SHORT_WAITING.connect_s + SHORT_WAITING.read_s)
GOES_ON_WITHIN_S = 5


@pytest.fixture
def store_settings(settings, bucket):  # noqa: F811
    store_in(bucket, settings)
    return bucket


@pytest.fixture
def site(store_settings, tmp_path):
    """A web process with an empty folder of files."""
    environment = {
        "HUB_STORE": "s3",
        "HUB_STORE_ENDPOINT": store_settings.endpoint,
        "HUB_STORE_BUCKET": store_settings.bucket,
        "HUB_STORE_KEY": store_settings.key,
        "HUB_STORE_SECRET": store_settings.secret,
        "HUB_DATABASE_POOL": str(POOL),
        "HUB_METRICS_TOKEN": "m" * 40,
    }
    with served_site(tmp_path / "site", **environment) as site:
        yield site


@pytest.fixture
def token(alice):
    return token_create(user=alice, label="mine", scope="write")[1]


@contextmanager
def stopped(storage):
    storage.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        storage.process.send_signal(signal.SIGCONT)


def ask(site, path, token="", *, method=None, body=None):
    """Return the status, the headers, the body and how long it took, in seconds."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(site.address + path, data=body, headers=headers, method=method)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read(), time.monotonic() - began
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read(), time.monotonic() - began


def require_told_as_storage(answers):
    for status, headers, body, seconds in answers:
        assert (status, json.loads(body)["error"]["code"]) == (503, "store_unreachable"), body
        assert int(headers["Retry-After"]) > 0
        assert seconds < ENDS_WITHIN_S


def test_a_storage_that_hangs_takes_no_page_away_that_needs_no_file(
    site, object_storage, done, token, record  # noqa: F811
):  # fmt: skip
    composition = done()
    adapter, pages = f"/api/v1/compositions/{composition.pk}/adapter", ("/modules/", "/health/ready")
    listed = "/api/v1/compositions"
    assert [ask(site, path)[0] for path in pages] == [200, 200]
    with ThreadPoolExecutor(VISITORS) as visitors, stopped(object_storage):
        waiting = [visitors.submit(ask, site, adapter, token) for _ in range(VISITORS)]
        slowest_s = 0.0
        while not all(answer.done() for answer in waiting):
            others = [ask(site, path, token if path == listed else "") for path in (*pages, listed)]
            assert [status for status, *_ in others] == [200, 200, 200], (others, site.log.read_text())
            slowest_s = max(slowest_s, *(seconds for *_, seconds in others))
        answers = [answer.result() for answer in waiting]
        ready = json.loads(ask(site, "/health/ready")[2])
        health_status, _, _, health_s = ask(site, "/health/")
    require_told_as_storage(answers)
    assert slowest_s < GOES_ON_WITHIN_S
    assert (ready["storage"], health_status, health_s < 1.5) == ("unreachable", 503, True)
    metrics = ask(site, "/metrics", "m" * 40)[2].decode()
    assert f'lora_hub_refusals_total{{code="store_unreachable"}} {float(VISITORS)}' in metrics
    assert wait_for(lambda: ask(site, adapter, token)[0] == 200, timeout_s=30)
    assert wait_for(lambda: ask(site, "/health/")[0] == 200, timeout_s=30)
    longest_s = max(seconds for *_, seconds in answers)
    record(requests=VISITORS, longest_s=round(longest_s, 1), slowest_other_s=round(slowest_s, 2))


def test_what_writes_into_a_storage_that_hangs_is_told_and_takes_nothing_away_either(
    site, object_storage, done, modules, token  # noqa: F811
):  # fmt: skip
    kept, gone = done(), done(seed=8)
    publish = json.dumps({"name": "made-here"}).encode()
    edit = json.dumps({"card": "# Another"}).encode()
    _, token_of_bob = token_create(user=modules[0].namespace.user, label="mine", scope="write")
    writes = [
        (f"/api/v1/compositions/{kept.pk}/publish", "POST", publish, token),
        (f"/api/v1/modules/{modules[0].full_name}", "PATCH", edit, token_of_bob),
    ]
    with ThreadPoolExecutor(VISITORS) as visitors, stopped(object_storage):
        waiting = [
            visitors.submit(ask, site, path, key, method=method, body=body)
            for _ in range(VISITORS // 4)
            for path, method, body, key in writes
        ]
        deleted = visitors.submit(ask, site, f"/api/v1/compositions/{gone.pk}", token, method="DELETE")
        while not all(answer.done() for answer in waiting):
            assert ask(site, "/modules/")[0] == 200
        require_told_as_storage([answer.result() for answer in waiting])
        assert deleted.result()[0] == 204  # the row is gone, and the sweep removes the files
    assert wait_for(
        lambda: ask(site, writes[1][0], token_of_bob, method="PATCH", body=edit)[0] == 200, timeout_s=30
    )
