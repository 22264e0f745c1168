"""A request that waits for the store of files holds no connection to the database, and waits briefly."""

import shutil
import socket
import threading
import time
from dataclasses import replace

import pytest
from django.db import connection, transaction

from hub_site.common.errors import Refusal
from hub_site.common.readiness import KeptAnswer, check_storage
from hub_site.common.waiting_requests import give_connection_back, is_answering_request
from modules_registry import blobs
from modules_registry.blobs import ask_store, delete_unnamed_blobs, store_files, store_settings
from modules_registry.core.errors import CARD_FILE, WEIGHTS_FILE
from modules_registry.storage import LONG_WAITING, SHORT_WAITING
from tests.factories import card_file, make_module

READ_S = 0.3


@pytest.fixture
def silent_server():
    """It takes connections and says nothing, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture
def waits(monkeypatch):
    """For each question that a request asks: whether it held a connection then. Nobody waits for long."""
    held = []

    def begin():
        give_connection_back()
        held.append(connection.connection is not None)

    short = replace(SHORT_WAITING, read_s=READ_S)
    monkeypatch.setattr(blobs, "IN_A_REQUEST", replace(short, begin=begin))
    monkeypatch.setattr(blobs, "LONG_WAITING", short)
    monkeypatch.setattr(blobs, "OF_A_PROBE", short)
    return held


@pytest.fixture
def hangs(settings, silent_server, data_folder, waits):
    """From now on the files are in an object storage that hangs, and none is on this machine."""

    def move():
        shutil.rmtree(data_folder / "blobs")
        settings.HUB_STORE = "s3"
        settings.HUB_STORE_OBJECTS = {
            "bucket": "files", "endpoint": f"http://127.0.0.1:{silent_server}", "key": "k", "secret": "s",
        }  # fmt: skip

    return move


def addresses_of(module):
    return [
        f"/{module.full_name}/resolve/main/{WEIGHTS_FILE}",
        f"/api/v1/modules/{module.full_name}/files/{WEIGHTS_FILE}",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_request_gives_its_connection_back_while_it_waits_for_the_store(base, bob, hangs, waits, client):
    module = make_module(bob, "french", seed=1)
    hangs()
    for number, address in enumerate(addresses_of(module), start=1):
        began_s = time.monotonic()
        answer = client.get(address, headers={"Accept": "application/json"})
        assert (answer.status_code, answer["Retry-After"]) == (503, "30"), address
        assert "store of files could not be reached" in answer.content.decode()
        assert time.monotonic() - began_s < READ_S + 5
        assert len(waits) >= number
    assert not any(waits)
    for page in ("/modules/", module.get_absolute_url()):  # it has no card
        assert client.get(page).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_another_one_that_fetches_a_file_holds_none_either(base, bob, hangs, waits, client):
    module = make_module(bob, "french", seed=1)
    hangs()
    answers = []

    def ask():
        answers.append(client.get(addresses_of(module)[0]).status_code)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert answers == [503] * 6
    assert not any(waits)


@pytest.mark.django_db(transaction=True)
def test_what_is_stored_is_stored_before_its_transaction_begins(db, monkeypatch):
    began, put = [], blobs.put

    def put_and_note(*words):
        began.append(connection.in_atomic_block)
        return put(*words)

    monkeypatch.setattr(blobs, "put", put_and_note)
    with store_files({CARD_FILE: card_file()}):
        assert connection.in_atomic_block
    assert began == [False]


def test_what_lost_its_last_row_between_put_and_lock_is_put_again(db, monkeypatch):
    lock = blobs.lock_blobs

    def lock_late(*, shared):
        if shared:
            for blob in list(blobs.store().iter()):
                blobs.store().delete(blob.sha256)
        lock(shared=shared)

    monkeypatch.setattr(blobs, "lock_blobs", lock_late)
    with store_files({CARD_FILE: card_file("# Mine\n")}) as stored:
        assert blobs.store().exists(stored[CARD_FILE].sha256)


def test_a_body_that_can_be_read_only_once_is_then_refused(db, monkeypatch):
    class Once:
        pieces = iter([b"bytes", b""])

        def seek(self, position):
            pass

        def read(self, count):
            return next(self.pieces, b"")

    exists = iter([False])
    monkeypatch.setattr(type(blobs.store()), "exists", lambda self, sha256: next(exists, True))
    with pytest.raises(Refusal) as refusal, store_files({"lfs": Once()}):
        pass
    assert (refusal.value.code, refusal.value.status) == ("store_unreachable", 503)


def test_what_is_deleted_while_the_store_hangs_is_deleted_and_its_file_waits_for_the_sweep(db, hangs, caplog):
    with store_files({CARD_FILE: card_file()}) as stored:
        pass
    hangs()
    delete_unnamed_blobs([stored[CARD_FILE].sha256])
    assert "1 files that nothing names stay until the next sweep" in caplog.text


def test_only_a_request_waits_for_a_short_time(db, rf, monkeypatch):
    from hub_site.common.waiting_requests import WaitingRequestsMiddleware

    told = []
    WaitingRequestsMiddleware(lambda request: told.append(store_settings().waiting))(rf.get("/"))
    assert told == [blobs.IN_A_REQUEST]
    assert store_settings().waiting == LONG_WAITING
    assert not is_answering_request()


@pytest.mark.django_db(transaction=True)
def test_a_transaction_keeps_its_connection(db):
    with transaction.atomic():
        connection.ensure_connection()
        blobs.IN_A_REQUEST.begin()
        assert connection.connection is not None
    blobs.IN_A_REQUEST.begin()
    assert connection.connection is None


def test_health_tells_of_the_store_and_ready_stays_so(db, hangs, client):
    check_storage(ask_store)
    assert client.get("/health/ready").json()["storage"] == "ok"
    check_storage(ask_store)  # forget the answer
    hangs_since = time.monotonic()
    hangs()
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["storage"]) == (200, "unreachable")
    assert client.get("/health/").status_code == 503
    assert time.monotonic() - hangs_since < 4
    check_storage(ask_store)


def test_a_server_that_is_asked_for_every_probe_is_asked_once_at_a_time():
    asked, may_answer = [], threading.Event()

    def question():
        asked.append(1)
        may_answer.wait(timeout=20)
        return "ok"

    kept = KeptAnswer(question)
    assert [kept.get(longest_s=0.02) for _ in range(5)] == ["unreachable"] * 5
    may_answer.set()
    assert [kept.get(longest_s=20) for _ in range(5)] == ["ok"] * 5
    assert len(asked) == 1


def test_an_old_answer_is_asked_for_again_and_a_question_that_breaks_is_no_answer(monkeypatch, caplog):
    monkeypatch.setattr("hub_site.common.readiness.KEPT_S", -1.0)
    answers = iter(["ok"])
    kept = KeptAnswer(lambda: next(answers))
    assert [kept.get(longest_s=20), kept.get(longest_s=20)] == ["ok", "unreachable"]
    assert "a check of this process broke" in caplog.text
