"""The places of a worker: how many long jobs it takes, and what becomes of a job that takes too long."""

import threading
from dataclasses import dataclass, field

import pytest

from hub_site.embedded.processes import wait_for
from hub_site.jobs import slots as slots_module
from hub_site.jobs.slots import Slots
from hub_site.jobs.worker import stopping


@dataclass
class FakeJob:
    is_quick: bool
    ended: threading.Event = field(default_factory=threading.Event)


class Lanes:
    """Jobs that wait, and those that run until they are ended."""

    def __init__(self) -> None:
        self.waiting, self.running = [], []

    def claim(self, is_quick: bool) -> FakeJob | None:
        job = next((job for job in self.waiting if job.is_quick == is_quick), None)
        if job is not None:
            self.waiting.remove(job)
        return job

    def do(self, job: FakeJob) -> None:
        self.running.append(job)
        job.ended.wait(30)
        self.running.remove(job)

    def add(self, *lanes: bool) -> list[FakeJob]:
        jobs = [FakeJob(is_quick) for is_quick in lanes]
        self.waiting += jobs
        return jobs


QUICK, LONG = True, False


@pytest.fixture
def lanes():
    return Lanes()


@pytest.fixture
def slots(lanes, monkeypatch):
    monkeypatch.setattr(slots_module, "LOOK_EVERY_S", 0.02)
    slots = Slots(2, lanes.claim, lanes.do)
    yield slots
    stopping.set()
    for job in [*lanes.waiting, *lanes.running]:
        job.ended.set()
    slots.join()
    stopping.clear()


def test_a_quick_job_never_waits_for_a_long_one(slots, lanes):
    long, _other = lanes.add(LONG, LONG)
    slots.start(lambda: None)
    assert wait_for(lambda: lanes.running == [long], timeout_s=5)
    for quick in lanes.add(QUICK, QUICK, QUICK):
        assert wait_for(lambda quick=quick: lanes.running == [long, quick], timeout_s=5)
        quick.ended.set()
    assert [job.is_quick for job in lanes.waiting] == [LONG]  # the other long one waits for its own lane


def test_a_long_job_waits_for_one_quick_job_at_most_however_many_there_are(slots, lanes):
    quick = lanes.add(*[QUICK] * 100)
    slots.start(lambda: None)
    assert wait_for(lambda: lanes.running == quick[:2], timeout_s=5)
    (long,) = lanes.add(LONG)
    quick[0].ended.set()
    assert wait_for(lambda: long in lanes.running, timeout_s=5)


def test_a_job_that_breaks_costs_no_place_and_its_end_is_told(slots, lanes):
    ends = []

    def break_down(job):
        raise ZeroDivisionError

    slots.do = break_down
    lanes.add(*[LONG] * 5, *[QUICK] * 5)
    slots.start(lambda: ends.append(True))
    assert wait_for(lambda: len(ends) == 10, timeout_s=5)
    assert slots.long_running == 0


def test_a_lost_message_delays_a_job_by_a_second_at_most_and_a_wake_not_at_all(slots, lanes, monkeypatch):
    monkeypatch.setattr(slots_module, "LOOK_EVERY_S", 30.0)
    slots.start(lambda: None)
    (job,) = lanes.add(QUICK)
    assert wait_for(lambda: slots.wake() or lanes.running == [job], timeout_s=5)


def test_a_quick_job_that_takes_long_counts_as_one_while_a_place_is_left(slots, lanes):
    lanes.add(QUICK, QUICK)
    first, second = slots.take(), slots.take()
    assert slots.move_to_long(first)
    assert not slots.move_to_long(second)
    assert (first.is_quick, second.is_quick) == (LONG, QUICK)
    for job in (first, second):
        slots.leave(job)
    assert slots.long_running == 0
