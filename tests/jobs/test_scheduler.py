"""Of several schedulers one sends the messages."""

import psycopg
import pytest

from hub_site.jobs.celery_app import app
from hub_site.jobs.scheduler import RETRY_S, ElectedScheduler, Election
from tests.jobs.test_work import drop_connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def elections():
    made = [Election(), Election()]
    yield made
    for election in made:
        election.leave()


def test_one_wins_and_another_one_follows_when_it_leaves(elections):
    first, second = elections
    assert (first.is_won(), second.is_won(), first.is_won()) == (True, False, True)
    first.leave()
    assert (second.is_won(), first.is_won()) == (True, False)


def test_one_whose_connection_was_dropped_stands_again_as_everybody(elections):
    first, second = elections
    assert first.is_won()
    drop_connection(first._session.info.backend_pid)
    assert first.is_won() is False
    assert second.is_won()
    assert first.is_won() is False


def test_without_a_database_nobody_wins(elections, monkeypatch):
    def away(**_):
        raise psycopg.OperationalError("Connection refused")

    monkeypatch.setattr("hub_site.jobs.scheduler.psycopg.connect", away)
    assert [election.is_won() for election in elections] == [False, False]


def test_a_scheduler_that_did_not_win_sends_nothing(elections, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(
        ElectedScheduler, "apply_entry", lambda self, entry, producer=None: sent.append(entry.name)
    )
    first, second = (
        ElectedScheduler(app=app, schedule_filename=str(tmp_path / name), lazy=False) for name in "ab"
    )
    first.tick()
    assert second.tick() == RETRY_S
    assert second.election._session is None
    first.close()
    second.tick()
    assert second.election._session is not None
    second.close()
    assert app.conf.beat_scheduler == "hub_site.jobs.scheduler:ElectedScheduler"
