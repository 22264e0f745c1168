"""A request has an id: its answer and its log lines say it, and so do those of the job it asked for."""

import asyncio
import json
import logging
import re
import sys
import threading

import pytest

from composer.models import Composition
from hub_site.common.errors import Refusal
from hub_site.jobs import leases, requests
from hub_site.jobs.celery_app import app, send_request_id, take_request_id
from hub_site.jobs.models import JobRequest, Status
from hub_site.jobs.work import WORKER, HandBack, JobKind, keep_lease, run_job
from hub_site.logs import FORMATTERS, JsonFormatter, LineFormatter, belongs_to, event_context, request_id
from hub_site.request_ids import RequestIds
from tests.composer.conftest import ask, base, modules, no_flushing, wakes  # noqa: F401

ID = "0123456789abcdef"


def ask_site(headers, seen, *, path="/", status=200):
    """One request through the middleware; returns the headers of its answer."""
    sent = []

    async def application(scope, receive, send):
        seen.append(request_id.get())
        await send({"type": "http.response.start", "status": status, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": headers, "method": "GET", "path": path, "query_string": b"q=mine"}
    asyncio.run(RequestIds(application)(scope, None, send))
    return dict(sent[0]["headers"])


def test_every_answer_says_its_own_id_which_the_code_behind_it_knows():
    seen = []
    told = [ask_site([], seen)[b"x-request-id"].decode() for _ in range(2)]
    assert told == seen
    assert len(set(told)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in told)
    assert request_id.get() == ""


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        (ID.encode(), True),
        (b"short", False),
        (b"x" * 65, False),
        (b"two words here", False),
        (b"a\nforged-line", False),
    ],
)
def test_a_proxy_may_give_the_id_if_it_can_stand_in_a_log(given, is_taken):
    assert (ask_site([(b"x-request-id", given)], [])[b"x-request-id"] == given) is is_taken


@pytest.fixture
def logged(caplog):
    """The formatter's lines of what is logged from now on."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(
        (LineFormatter().format(record), JsonFormatter().format(record))
    )
    caplog.set_level(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def test_an_answered_request_is_one_line_with_its_id_status_and_time(logged):
    ask_site([(b"x-request-id", ID.encode())], [], path="/bob/caf\u00e9", status=404)
    ((line, event),) = logged
    assert re.search(rf"\[request_id {ID}\]  GET /bob/caf%C3%A9 404 in \d+ ms$", line)
    event = json.loads(event)
    assert (event["request_id"], event["method"], event["path"]) == (ID, "GET", "/bob/caf%C3%A9")
    assert (event["status"], type(event["ms"])) == (404, int)
    assert "mine" not in line


@pytest.mark.parametrize("path", ["/static/css/site.css", "/health/ready", "/metrics"])
def test_what_comes_every_second_is_logged_only_where_it_is_refused(logged, path):
    ask_site([], [], path=path)
    assert logged == []
    ask_site([], [], path=path, status=503)
    assert len(logged) == 1


def test_what_opens_something_is_no_part_of_the_line(logged):
    ask_site([], [], path="/shared/0f8b3c2a9d1e4f6b.Signature/")
    ((line, event),) = logged
    assert "/shared/…/ 200" in line
    assert json.loads(event)["path"] == "/shared/…/"
    assert "Signature" not in line + event


@pytest.mark.django_db(transaction=True)
def test_the_id_tells_the_whole_story_of_a_job_that_another_worker_takes_over(
    ask,  # noqa: F811
    wakes,  # noqa: F811
    logged,
    monkeypatch,
):
    with belongs_to(request=ID):
        composition = ask()
    job, kind = f"Composition {composition.pk}", JobKind(Composition)

    def die(job):
        raise SystemExit

    monkeypatch.setattr(Composition, "notice", lambda job: None)  # it would read the report that is none here
    monkeypatch.setattr("hub_site.jobs.work.WORKER", "first:1")
    with pytest.raises(SystemExit):
        run_job(kind, composition.pk, die)
    Composition.objects.update(lease_until="2026-01-01T00:00:00Z")
    leases.sweep(Composition)
    monkeypatch.setattr("hub_site.jobs.work.WORKER", "second:2")
    run_job(kind, composition.pk, lambda job: leases.finish(job, Status.DONE, report={}))
    mine = [line for line, _ in logged if f"request_id {ID}" in line and job in line.partition("]  ")[2]]
    assert [line.partition("]  ")[2] for line in mine] == [
        f"{job} accepted",
        f"{job} begun by worker first:1",
        f"{job} queued again: the lease of worker first:1 ran out",
        f"{job} goes on by worker second:2, taken over from worker first:1",
        f"{job} done by worker second:2",
    ]
    assert f"[request_id {ID}, job {job}]" in mine[2]  # of the sweeper, which another request may have woken


@pytest.mark.django_db(transaction=True)
def test_so_it_does_of_one_that_fails_or_is_handed_back(ask, wakes, logged):  # noqa: F811
    with belongs_to(request=ID):
        composition = ask()

    def hand_back(job):
        raise HandBack

    def refuse(job):
        raise Refusal("enough", "Enough.")

    run_job(JobKind(Composition), composition.pk, hand_back)
    run_job(JobKind(Composition), composition.pk, refuse)
    told = [line.partition("]  ")[2] for line, _ in logged if f"request_id {ID}" in line]
    job = f"Composition {composition.pk}"
    assert f"{job} handed back by worker {WORKER}" in told
    assert f"{job} failed: enough: Enough. (worker {WORKER})" in told


def record(message, exc_info=None):
    return logging.LogRecord("composer.run.runner", logging.ERROR, __file__, 1, message, (), exc_info)


def test_a_line_names_the_request_and_the_job():
    with belongs_to(request=ID, job="Composition 7"):
        line = LineFormatter().format(record("it broke"))
    assert line.endswith(f"ERROR   composer.run.runner [request_id {ID}, job Composition 7]  it broke")
    assert LineFormatter().format(record("it broke")).endswith("ERROR   composer.run.runner  it broke")


def test_as_json_an_event_is_one_object_without_what_opens_something():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        told = record("GET /shared/0f8b3c2a9d1e4f6b.Signature", sys.exc_info())
    with belongs_to(request=ID):
        line = JsonFormatter().format(told)
    assert len(line.splitlines()) == 1
    event = json.loads(line)
    assert (event["level"], event["logger"], event["request_id"]) == ("ERROR", "composer.run.runner", ID)
    assert event["message"] == "GET /shared/…"
    assert "ValueError: two\nlines" in event["exception"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert "job" not in event
    assert set(FORMATTERS) == {"line", "json"}


@pytest.mark.django_db(transaction=True)
def test_the_id_follows_the_job_to_its_worker_and_to_the_thread_that_keeps_its_lease(
    ask,  # noqa: F811
    wakes,  # noqa: F811
    monkeypatch,
):
    with belongs_to(request=ID):
        composition = ask()
    other = ask(seed=8)
    seen, renewed, renew = [], threading.Event(), leases.renew_lease

    def renew_and_look(job):
        seen.append(event_context())
        renewed.set()
        return renew(job)

    def work(job):
        seen.append(event_context())
        with keep_lease(job):
            assert renewed.wait(30)

    monkeypatch.setattr(leases, "renew_lease", renew_and_look)
    monkeypatch.setattr("hub_site.jobs.work.HEARTBEAT_S", 0.01)
    run_job(JobKind(Composition), composition.pk, work_and_refuse(work))
    assert {tuple(one.items()) for one in seen} == {
        (("request_id", ID), ("job", f"Composition {composition.pk}"))
    }
    assert requests.request_of(other.pk) == ""
    assert event_context() == {}


def work_and_refuse(work):
    """The row of a composition without a report cannot be closed as done."""

    def do(job):
        work(job)
        raise Refusal("enough", "Enough.")

    return do


def test_a_message_carries_the_id_to_the_task():
    headers = {}
    with belongs_to(request=ID):
        send_request_id(headers=headers)
    assert headers == {"request_id": ID}
    send_request_id(headers=(nothing := {}))
    assert nothing == {}

    @app.task(name="tests.shows_its_request", bind=True)
    def shows_its_request(self):
        return request_id.get()

    shows_its_request.push_request(request_id=ID)
    try:
        take_request_id(task=shows_its_request)
        assert request_id.get() == ID
    finally:
        shows_its_request.pop_request()
        take_request_id(task=shows_its_request)
    assert request_id.get() == ""


def test_requests_are_forgotten_after_a_month(db):
    JobRequest.objects.create(job_id="00000000-0000-0000-0000-000000000001", request_id=ID)
    requests.forget_old_requests()
    assert JobRequest.objects.count() == 1
    JobRequest.objects.update(at="2026-01-01T00:00:00Z")
    requests.forget_old_requests()
    assert not JobRequest.objects.exists()
