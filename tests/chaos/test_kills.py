"""Whatever is killed and whenever, the work is gone on with, and ends in the same bytes."""

import os
import random
import signal

import pytest

from composer.models import Composition, ScreenedLoss, SearchState
from composer.run import events as run_events
from composer.run import runner
from hub_site.jobs.models import Status
from tests.chaos.conftest import times
from tests.composer.test_resuming import adapter_of, ask, core, run, with_core  # noqa: F401  fixtures

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wakes"), pytest.mark.timeout(1800)]

ASKED = {
    "by gradient": {"search": "adam", "budget": 300},
    "without gradient": {"method": "lorahub", "search": "ngopt", "budget": 60},
    "by the default": {"method": "auto", "search": "auto", "budget": 100},
}
KILLS = times(1, 20)  # of each
LAUNCHER_EVERY = 10  # of them kills the launcher, which then imports torch anew


@pytest.fixture
def kill_at(core, monkeypatch):  # noqa: F811
    """Kill the child of the first attempt, or the launcher, once so many events are stored."""
    children = []
    start_child, store_events = core.start_child, run_events.store_events
    told = {"stored": 0, "kinds": set(), "at": None, "victim": "child"}

    def start(folder, limits):
        children.append(start_child(folder, limits))
        return children[-1]

    def store_and_kill(composition, events):
        before, told["stored"] = told["stored"], told["stored"] + len(events)
        told["kinds"] |= {event["event"] for event in events}
        if told["at"] is None or not before < told["at"] <= told["stored"]:
            store_events(composition, events)
            return
        store_events(composition, events[: told["at"] - before])
        pid = core.process.pid if told["victim"] == "launcher" else children[-1].pid
        os.kill(pid, signal.SIGKILL)
        store_events(composition, events[told["at"] - before :])

    monkeypatch.setattr(core, "start_child", start)
    monkeypatch.setattr(runner, "store_events", store_and_kill)
    monkeypatch.setattr(runner, "TICK_S", 0.005)

    def arm(at: int | None, victim: str = "child") -> dict:
        told.update(stored=0, kinds=set(), at=at, victim=victim)
        return told

    return arm


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_killed_attempt_is_gone_on_with_to_the_same_bytes(ask, kill_at, asked, record):  # noqa: F811
    told = kill_at(None)
    whole = run(ask(**asked))
    n_events, expected = told["stored"], adapter_of(whole)
    steps_expected = whole.events.filter(kind="step").count()
    draw = random.Random(7)
    for number in range(KILLS):
        ScreenedLoss.objects.all().delete()
        victim = "launcher" if number % LAUNCHER_EVERY == LAUNCHER_EVERY - 1 else "child"
        kill_at(draw.randint(1, n_events - 1), victim)
        composition = run(ask(**asked))
        if composition.status != Status.DONE:  # else it was killed when it had told everything
            is_crash = victim == "child" and not told["kinds"] & run_events.PROGRESS_KINDS
            assert (composition.status, composition.crashes) == (Status.QUEUED, int(is_crash))
            Composition.objects.update(due_at=composition.created_at)
            composition = run(composition)
        assert composition.status == Status.DONE
        steps = list(composition.events.filter(kind="step").values_list("detail__step", flat=True))
        assert steps == list(range(1, steps_expected + 1))
        numbers = list(composition.events.values_list("number", flat=True))
        assert numbers == list(range(1, len(numbers) + 1))
        assert adapter_of(composition) == expected
        assert not SearchState.objects.exists()
    record(kills=KILLS, same_bytes=KILLS)
