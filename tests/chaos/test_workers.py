"""Workers as processes: stopped past their lease, killed, with wrong clocks, beside poison, under load."""

import signal
from itertools import pairwise

import pytest

from composer.models import Composition
from composer.playground.models import TryOut
from composer.playground.services import tryout_watch
from composer.run import runner
from hub_site.jobs.models import CRASHES_MAX, Status
from tests.chaos.conftest import all_finished, times, wait_until

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("wakes"), pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(900),
]  # fmt: skip

STOPS = times(2, 10)
QUICK, GOOD = 100, 20


def outcomes() -> set[tuple]:
    return set(Composition.objects.values_list("status", "generation", "crashes", "error_code"))


def running_worker(workers, composition):
    """The process that holds the composition, once one does."""
    pids = {str(worker.process.pid): worker for worker in workers}

    def holder():
        composition.refresh_from_db()
        return composition.status == Status.RUNNING and composition.worker.rpartition(":")[2]

    assert wait_until(holder, timeout_s=20)
    return pids[holder()]


def test_clocks_that_are_wrong_by_a_minute_take_no_job_from_a_living_worker(start_worker, ask_for, record):
    for skew in ("60", "-60"):
        start_worker("--skew", skew)
    n_jobs = times(6, 30)
    for number in range(n_jobs):
        ask_for("work_for_2_s" if number % 3 == 0 else "finish")
    assert wait_until(all_finished, timeout_s=120)
    assert outcomes() == {(Status.DONE, 1, 0, "")}
    record(skew_s=[60, -60], jobs=n_jobs, taken_away=0)


@pytest.mark.parametrize("skew", ["60", "-60"])
def test_a_clock_that_is_wrong_by_a_minute_costs_no_question(start_worker, ask_it, queued_ids, skew):
    start_worker("--skew", skew, "--answers")
    asked = [ask_it("think for 3 s"), ask_it()]

    def all_answered() -> bool:
        for tryout in asked:
            tryout_watch(tryout)
        return all(tryout.is_finished for tryout in asked)

    assert wait_until(all_answered, timeout_s=60)
    rows = set(TryOut.objects.values_list("status", "error_code"))
    assert rows == {(Status.DONE, "")}


def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_any_more(start_worker, ask_for, record):
    workers = [start_worker(), start_worker()]
    for _ in range(STOPS):
        composition = ask_for("work_for_2_s")
        stopped = running_worker(workers, composition)
        stopped.send(signal.SIGSTOP)
        Composition.objects.filter(pk=composition.pk).update(lease_until=composition.created_at)  # it ran out
        assert wait_until(all_finished, timeout_s=30)
        rows = list(Composition.objects.values())
        events = list(composition.events.values_list("number", "generation", "detail"))
        stopped.send(signal.SIGCONT)
        told = f"{composition.pk} went to another worker"
        assert wait_until(lambda told=told, stopped=stopped: told in stopped.printed, timeout_s=30)
        assert list(Composition.objects.values()) == rows
        assert list(composition.events.values_list("number", "generation", "detail")) == events
        composition.refresh_from_db()
        assert composition.status == Status.DONE
    record(stops=STOPS, written_after=0)


def test_a_killed_worker_s_jobs_go_to_another_one(start_worker, ask_for):
    workers = [start_worker(), start_worker()]
    composition = ask_for("work_for_2_s")
    running_worker(workers, composition).send(signal.SIGKILL)
    Composition.objects.filter(pk=composition.pk).update(lease_until=composition.created_at)
    assert wait_until(all_finished, timeout_s=30)
    composition.refresh_from_db()
    assert (composition.status, composition.generation) == (Status.DONE, 3)  # swept, and claimed again


def test_poison_ends_by_itself_and_costs_no_good_job(start_worker, ask_for, record):
    poison = ask_for("kill_itself")
    for _ in range(GOOD):
        ask_for("finish")
    start_worker()
    assert wait_until(all_finished, timeout_s=90)
    poison.refresh_from_db()
    assert (poison.status, poison.error_code, poison.crashes) == (Status.FAILED, "poison", CRASHES_MAX)
    good = Composition.objects.exclude(pk=poison.pk)
    assert set(good.values_list("status", "crashes", "generation")) == {(Status.DONE, 0, 1)}
    record(good=GOOD, poison=1, good_failed=0)


@pytest.mark.parametrize(
    "long_first",
    [pytest.param(True, marks=pytest.mark.long, id="the long one first"),
     pytest.param(False, id="the long one last")],
)  # fmt: skip
def test_a_hundred_quick_jobs_and_a_long_one_do_not_wait_for_each_other(
    start_worker, ask_for, record, long_first
):
    quick_ids = set()
    if long_first:
        long = ask_for("work_for_2_s", is_quick=False)
    for _ in range(QUICK):
        quick_ids.add(ask_for("finish").pk)
    if not long_first:
        long = ask_for("work_for_2_s", is_quick=False)
    start_worker()
    assert wait_until(all_finished, timeout_s=180)
    assert {status for status, *_ in outcomes()} == {Status.DONE}
    long.refresh_from_db()
    quick = Composition.objects.filter(pk__in=quick_ids).order_by("started_at")
    before_long = quick.filter(started_at__lt=long.started_at).count()
    beside_long = quick.filter(finished_at__gt=long.started_at, finished_at__lt=long.finished_at).count()
    starts = pairwise(quick.values_list("started_at", flat=True))
    longest_gap_s = max((later - sooner).total_seconds() for sooner, later in starts)
    assert before_long <= runner.slots().count  # the long one begins as soon as one place is free
    assert beside_long > 0  # quick ones end while it runs
    assert longest_gap_s < (long.finished_at - long.started_at).total_seconds()  # none waits for its end
    record(
        quick=QUICK,
        quick_before_long=before_long,
        quick_ended_beside_long=beside_long,
        longest_gap_between_quick_starts_s=round(longest_gap_s, 2),
    )


def test_a_job_that_takes_longer_than_estimated_keeps_no_quick_one_waiting(start_worker, ask_for, record):
    late, long = ask_for("loop_for_ever"), ask_for("loop_for_ever", is_quick=False)
    start_worker(HUB_COMPOSE_QUICK_S="1")
    running = Composition.objects.filter(status=Status.RUNNING)
    assert wait_until(lambda: running.count() == 2, timeout_s=30)
    quick = Composition.objects.filter(pk=ask_for("finish").pk)
    assert wait_until(lambda: quick.filter(status=Status.DONE).exists(), timeout_s=30)
    for job in (late, long):
        job.refresh_from_db()
    assert (late.status, late.is_quick, late.crashes) == (Status.QUEUED, False, 0)
    assert (long.status, long.generation) == (Status.RUNNING, 1)
    waited = quick.get().started_at - quick.get().created_at
    record(quick_waited_s=round(waited.total_seconds(), 1))
