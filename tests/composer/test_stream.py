"""Following a composition: what every watcher is told, to whom, and how somebody who was cut off goes on."""

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest
from django.db import connection
from django.utils import timezone

from composer.models import STREAM_PROCESS_ALIVE, Composition, CompositionEvent, StreamProcess
from composer.run.events import store_events
from composer.services import composition_delete, composition_stop
from composer.watch import processes
from composer.watch.event_text import event_json
from hub_site.accounts.services import token_create
from hub_site.embedded.processes import wait_for
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from tests.served_site import ServedSite, served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

WAIT_S = 20
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'composition streams'"


@pytest.fixture(scope="module")
def site(tmp_path_factory, django_db_setup) -> Iterator[ServedSite]:
    with served_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def token(alice) -> str:
    return token_create(user=alice, label="test", scope="read")[1]


@pytest.fixture
def running(ask, wakes) -> Composition:
    return leases.claim(Composition, ask().pk, worker="tests")


def tell(composition: Composition, *steps: int) -> None:
    """Store steps as a worker does."""
    leases.append_events(
        composition,
        [
            CompositionEvent(
                kind="step",
                detail={"step": step, "budget": 9, "loss": 1.0, "best_loss": 1.0, "weights": [0.5]},
            )
            for step in steps
        ],
    )


def test_a_warning_is_kept_and_said_in_its_own_words(running):
    store_events(running, [{"event": "warning", "text": "The template glues."}])
    (event,) = CompositionEvent.objects.filter(job=running, kind="warning")
    assert event_json(event)["said"] == "The template glues."


class Stream:
    """One open stream, read message by message."""

    def __init__(self, site: ServedSite, composition: Composition, token: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=WAIT_S)
        self.connection.request(
            "GET",
            f"/api/v1/compositions/{composition.pk}/stream",
            headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream", **headers},
        )
        self.answer = self.connection.getresponse()

    def message(self) -> dict[str, str]:
        """The next one that is more than a ping, by its fields; empty at the end."""
        fields: dict[str, str] = {}
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif fields.keys() & {"data"}:
                return fields
            else:
                fields = {}
        return {}

    def numbers(self, count: int) -> list[int]:
        """The ids of the next events."""
        found = []
        while len(found) < count:
            message = self.message()
            assert message, "the stream has ended"
            if "id" in message:
                found.append(int(message["id"]))
        return found

    def rest(self) -> list[dict[str, str]]:
        messages = []
        while message := self.message():
            messages.append(message)
        return messages

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


@contextlib.contextmanager
def streaming(*arguments, **headers) -> Iterator[Stream]:
    stream = Stream(*arguments, **headers)
    try:
        yield stream
    finally:
        stream.close()


def test_events_come_as_they_are_stored_and_the_stream_ends_with_the_composition(site, running, token):
    tell(running, 1)
    with streaming(site, running, token) as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        assert stream.answer.headers["X-Accel-Buffering"] == "no"
        assert stream.numbers(1) == [1]  # what was there before
        standing = stream.message()
        assert standing["event"] == "standing"
        assert json.loads(standing["data"])["status"] == "running"
        tell(running, 2, 3)
        first, second = stream.message(), stream.message()
        assert [first["id"], second["id"]] == ["2", "3"]
        event = json.loads(second["data"])
        assert event["said"] == "Step 3 of 9: loss 1.0000, lowest 1.0000"
        assert event["detail"]["weights"] == [0.5]
        leases.finish(running, Status.FAILED, error_code="deadline", error_message="Too long.")
        (end,) = stream.rest()
        assert json.loads(end["data"]) == {
            "status": "failed", "is_finished": True, "stop_requested": False, "cancel_requested": False,
        }  # fmt: skip


def test_a_wish_to_stop_is_told_without_a_number_so_nobody_goes_on_from_it(site, running, token, alice):
    with streaming(site, running, token) as stream:
        assert json.loads(stream.message()["data"])["stop_requested"] is False
        composition_stop(owner=alice, composition_id=running.pk)
        message = stream.message()
        assert json.loads(message["data"])["stop_requested"] is True
        assert "id" not in message


def test_who_was_cut_off_gets_the_rest_once_and_in_order(site, running, token):
    tell(running, 1, 2, 3)
    with streaming(site, running, token, **{"Last-Event-ID": "2"}) as stream:
        assert stream.numbers(1) == [3]
        tell(running, 4)
        assert stream.numbers(1) == [4]


def test_a_web_server_that_was_killed_and_started_again_goes_on_where_each_watcher_was(site, running, token):
    with streaming(site, running, token) as stream:
        tell(running, 1, 2)
        assert stream.numbers(2) == [1, 2]
        site.process.kill()
        site.process.wait()
    tell(running, 3)
    site.start()
    with streaming(site, running, token, **{"Last-Event-ID": "2"}) as stream:
        tell(running, 4)
        assert stream.numbers(2) == [3, 4]


def test_more_events_than_one_answer_holds_come_all(site, running, token):
    tell(running, *range(1, 1203))
    with streaming(site, running, token) as stream:
        assert stream.numbers(1202) == list(range(1, 1203))


def test_the_streams_outlive_a_database_connection_that_breaks(site, running, token):
    with streaming(site, running, token) as stream:
        assert stream.message()["event"] == "standing"
        end_listening()
        tell(running, 1)
        assert stream.numbers(1) == [1]


def test_many_watchers_of_several_compositions_share_one_connection(site, running, ask, token):
    other = leases.claim(Composition, ask(seed=8).pk, worker="tests")
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(streaming(site, composition, token))
            for composition in (running, other)
            for _ in range(8)
        ]
        for stream in streams:
            assert stream.message()["event"] == "standing"
        assert listening() == 1
        tell(running, 1)
        tell(other, 1, 2)
        assert [stream.numbers(1) for stream in streams[:8]] == [[1]] * 8
        assert [stream.numbers(2) for stream in streams[8:]] == [[1, 2]] * 8
        assert listening() == 1
    assert wait_for(lambda: listening() == 0, timeout_s=WAIT_S)  # given back when nobody watches


def test_a_stranger_finds_nothing_and_a_wrong_number_is_refused(site, running, charlie, token):
    stranger = token_create(user=charlie, label="test", scope="read")[1]
    with streaming(site, running, stranger) as stream:
        assert stream.answer.status == 404
    with streaming(site, running, "lh_none") as stream:
        assert stream.answer.status == 401
    with streaming(site, running, token, **{"Last-Event-ID": "two"}) as stream:
        assert stream.answer.status == 400
        assert stream.answer.headers["Content-Type"] == "application/json"
        assert json.loads(stream.answer.read())["error"]["code"] == "bad_after"


def test_a_composition_that_is_deleted_ends_its_streams(site, running, token, alice):
    tell(running, 1)
    with streaming(site, running, token) as stream:
        assert stream.numbers(1) == [1]
        leases.finish(running, Status.CANCELLED)
        stream.rest()
    with streaming(site, running, token, **{"Last-Event-ID": "1"}) as stream:
        assert [message.get("event") for message in stream.rest()] == ["standing"]
    composition_delete(owner=alice, composition_id=running.pk)
    with streaming(site, running, token) as stream:
        assert stream.answer.status == 404


def test_one_person_cannot_take_every_stream(tmp_path, running, token):
    with (
        served_site(tmp_path / "site", HUB_STREAMS_OF_OWNER_MAX="1") as site,
        contextlib.ExitStack() as stack,
    ):
        first = stack.enter_context(streaming(site, running, token))
        assert first.message()["event"] == "standing"
        second = stack.enter_context(streaming(site, running, token))
        assert second.answer.status == 503
        assert json.loads(second.answer.read())["error"]["code"] == "too_many_streams"


def test_two_web_processes_share_the_limit_of_a_person(tmp_path, running, token):
    limit = {"HUB_STREAMS_OF_OWNER_MAX": "1"}
    with (
        served_site(tmp_path / "one", **limit) as one,
        served_site(tmp_path / "other", **limit) as other,
    ):
        with streaming(one, running, token) as first:
            assert first.message()["event"] == "standing"
            with streaming(other, running, token) as second:
                assert second.answer.status == 503
        assert wait_for(lambda: not StreamProcess.objects.exists(), timeout_s=20)
        with streaming(other, running, token) as third:
            assert third.message()["event"] == "standing"


def test_a_process_that_was_killed_holds_no_place_for_long(running, alice):
    StreamProcess.objects.create(name="killed:1", by_owner={str(alice.pk): 7})
    StreamProcess.objects.create(name="here:2", by_owner={str(alice.pk): 2, "0": 5})
    assert processes.count_elsewhere(alice.pk) == 9
    long_ago = timezone.now() - 2 * STREAM_PROCESS_ALIVE
    StreamProcess.objects.filter(name="killed:1").update(seen_at=long_ago)
    assert processes.count_elsewhere(alice.pk) == 2
    processes.tell_others({alice.pk: 1})
    assert processes.count_elsewhere(alice.pk) == 2  # its own do not count twice
    assert not StreamProcess.objects.filter(name="killed:1").exists()
    processes.forget_process()
    assert list(StreamProcess.objects.values_list("name", flat=True)) == ["here:2"]


def listening() -> int:
    """How many connections of the database read for streams."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({BACKENDS}) readers")
        return cursor.fetchone()[0]


def end_listening() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) readers")
