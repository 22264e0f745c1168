"""A dropped connection to the database, in every stage of a composition: nothing fails, nothing is lost."""

import psycopg
import pytest
from django.db import connection

from composer.core.spec.stages import STAGES
from composer.models import Composition, ScreenedLoss
from composer.run import events as run_events
from composer.run import runner
from hub_site.common.site_faults import SENTENCES
from hub_site.embedded.processes import wait_for
from hub_site.jobs.models import Status
from tests.chaos.conftest import times
from tests.composer.test_resuming import adapter_of, ask, core, run, with_core  # noqa: F401  fixtures

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("wakes"), pytest.mark.timeout(1800),
    pytest.mark.django_db(transaction=True),
]  # fmt: skip

ROUNDS = times(1, 20)  # each with a drop in every stage
ASKED = {"method": "auto", "search": "auto", "budget": 100}


def drop_own_connection() -> None:
    """As when a firewall or a restart of the server ends it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    parameters = connection.get_connection_params() | {"cursor_factory": None}
    with psycopg.connect(**parameters, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        assert wait_for(lambda: other.execute(alive, [pid]).fetchone() == (0,), timeout_s=10)


@pytest.fixture
def drop_in(monkeypatch):
    """Drop the worker's connection once, as it stores the stage's beginning or what is told next."""
    store_events = run_events.store_events
    armed = {"stage": None, "skip": 0}

    def store_or_drop(composition, events):
        for event in events:
            if event.get("stage") == armed["stage"] and event["event"] == "stage":
                armed["reached"] = True
            if armed.get("reached"):
                if armed["skip"] == 0:
                    armed.update(stage=None, reached=False)
                    drop_own_connection()
                armed["skip"] -= 1
        store_events(composition, events)

    monkeypatch.setattr(runner, "store_events", store_or_drop)
    monkeypatch.setattr(runner, "TICK_S", 0.005)
    return lambda stage, skip: armed.update(stage=stage, skip=skip, reached=False)


def test_a_connection_that_drops_in_any_stage_costs_neither_the_job_nor_a_byte(ask, drop_in, record):  # noqa: F811
    drop_in(None, 0)
    expected = adapter_of(run(ask(**ASKED)))
    stages = [stage.name for stage in STAGES]
    for number in range(ROUNDS):
        ScreenedLoss.objects.all().delete()
        composition = ask(**ASKED)
        for stage in stages:
            drop_in(stage, number % 2)
            composition = run(composition)
            assert (composition.status, composition.crashes, composition.error_code) == (Status.QUEUED, 0, "")
            assert composition.put_off_reason == SENTENCES["database_unreachable"]
            Composition.objects.filter(pk=composition.pk).update(due_at=composition.created_at)
        composition = run(composition)
        assert (composition.status, composition.put_off_reason) == (Status.DONE, "")
        numbers = list(composition.events.values_list("number", flat=True))
        assert numbers == list(range(1, len(numbers) + 1))
        steps = list(composition.events.filter(kind="step").values_list("detail__step", flat=True))
        assert steps == list(range(1, len(steps) + 1))
        assert adapter_of(composition) == expected
    record(drops_per_stage=ROUNDS, stages=stages, failed=0)
