"""Who holds a job, and what becomes of it when its worker vanishes. A composition stands for any job."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from composer.models import Composition, CompositionEvent
from hub_site.common.site_faults import SENTENCES
from hub_site.jobs import leases
from hub_site.jobs.models import CRASHES_MAX, LEASE, PUT_OFF_MAX, Status
from modules_registry.models import BaseModel


@pytest.fixture
def job(alice):
    base = BaseModel.objects.create(
        name="tests/base", revision="1", kind="seq2seq", architecture="T5", parameters=1
    )
    return Composition.objects.create(owner=alice, base=base, name="task", method="exact", budget=5, seed=1)


def claim(job, worker="one"):
    return leases.claim(Composition, job.pk, worker=worker)


def lose_lease(job, **changes):
    """As if its worker had been silent for longer than a lease."""
    past = timezone.now() - timedelta(seconds=1)
    Composition.objects.filter(pk=job.pk).update(lease_until=past, **changes)


def state(job):
    job.refresh_from_db()
    return job.status


def test_a_queued_job_is_claimed_with_a_lease_and_a_new_generation(job):
    held = claim(job)
    assert (held.status, held.worker, held.generation) == (Status.RUNNING, "one", 1)
    assert held.lease_until > timezone.now()
    assert held.started_at


def test_a_second_worker_leaves_a_running_job_alone(job):
    claim(job)
    assert claim(job, "two") is None


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_exactly_one_gets_the_job(job):
    taken, start = [], threading.Barrier(8)

    def work(name):
        start.wait()
        if claim(job, name):
            taken.append(name)
        connection.close()

    threads = [threading.Thread(target=work, args=[f"worker {number}"]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job.refresh_from_db()
    assert taken == [job.worker]
    assert job.generation == 1


def test_a_finished_job_cannot_be_claimed(job):
    leases.finish(claim(job), Status.FAILED)
    assert claim(job) is None


def test_a_job_whose_worker_went_silent_is_taken_over_once_it_was_swept_and_that_is_no_crash(job):
    claim(job)
    lose_lease(job)
    assert claim(job, "two") is None
    leases.sweep(Composition)
    held = claim(job, "two")
    assert (held.worker, held.generation, held.crashes) == ("two", 3, 0)


def test_workers_that_vanish_one_after_another_cost_a_job_waits_and_not_its_life(job):
    expected_s = {0: 0, 1: 5, 20: 20, 700: 600}
    for waited in expected_s:
        Composition.objects.filter(pk=job.pk).update(due_at=timezone.now())
        claim(job)
        lose_lease(job, **({"put_off_since": timezone.now() - timedelta(seconds=waited)} if waited else {}))
        assert leases.sweep(Composition) == ([] if waited else [job.pk])
        assert (state(job), job.crashes) == (Status.QUEUED, 0)
        assert job.put_off_reason == SENTENCES["machine_fault"]
        wait_s = (job.due_at - timezone.now()).total_seconds()
        assert wait_s == pytest.approx(expected_s[waited], abs=2)


def test_a_job_whose_workers_vanished_for_a_day_without_progress_is_given_up(job, caplog):
    claim(job)
    lose_lease(job, put_off_since=timezone.now() - PUT_OFF_MAX)
    assert leases.sweep(Composition) == []
    assert (state(job), job.error_code) == (Status.FAILED, "machine_fault")
    assert "within a day" in job.error_message
    assert f"Composition {job.pk} failed: machine_fault" in caplog.text


def die(job, *, after_progress=False):
    Composition.objects.filter(pk=job.pk).update(due_at=timezone.now())
    held = claim(job)
    if after_progress:
        leases.append_events(held, [CompositionEvent(kind="step")], progress=leases.PROGRESS)
    leases.count_crash(held)
    job.refresh_from_db()
    return job


@pytest.mark.parametrize("crashes_before", range(CRASHES_MAX))
def test_a_death_after_progress_counts_nothing_and_forgets_those_before(job, crashes_before):
    for crashes in range(1, crashes_before + 1):
        assert die(job).crashes == crashes
    for _ in range(CRASHES_MAX + 1):
        assert (die(job, after_progress=True).status, job.crashes) == (Status.QUEUED, 0)
    for crashes in range(1, CRASHES_MAX):
        assert (die(job).status, job.crashes) == (Status.QUEUED, crashes)
    assert (die(job).status, job.error_code) == (Status.FAILED, "poison")


def wait_s(job):
    return (job.due_at - timezone.now()).total_seconds()


def test_the_next_try_waits_longer_after_each_death_but_not_after_progress(job):
    assert wait_s(die(job)) == pytest.approx(5, abs=2)
    assert claim(job) is None
    assert wait_s(die(job)) == pytest.approx(30, abs=2)
    assert wait_s(die(job, after_progress=True)) <= 0
    assert claim(job)


@pytest.mark.parametrize(
    ("code", "waits"), [("machine_fault", [0, 5]), ("disk_full", [5, 5]), ("database_unreachable", [5, 5])]
)
def test_only_after_the_first_fault_of_a_machine_a_job_is_due_at_once(job, code, waits):
    for wait in waits:
        Composition.objects.filter(pk=job.pk).update(due_at=timezone.now())
        leases.put_off(claim(job), code=code, reason="A fault.")
        job.refresh_from_db()
        assert wait_s(job) == pytest.approx(wait, abs=1)


@pytest.mark.parametrize("skew_s", [-60, 60])
def test_a_machine_s_wrong_clock_neither_takes_a_lease_nor_loses_one(job, monkeypatch, skew_s):
    now = timezone.now
    held = claim(job)
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=skew_s))
    assert claim(job, "two") is None
    assert leases.sweep(Composition) == []
    leases.renew_lease(held)
    monkeypatch.undo()
    assert claim(job, "three") is None
    job.refresh_from_db()
    assert now() + LEASE / 2 < job.lease_until < now() + LEASE * 1.5


def test_a_stale_worker_writes_to_no_row(job):
    stale = claim(job)
    lose_lease(job)
    leases.sweep(Composition)
    claim(job, "two")
    for write in (
        lambda: leases.renew_lease(stale),
        lambda: leases.append_events(stale, [CompositionEvent(kind="step")], progress={"steps_done": 3}),
        lambda: leases.finish(stale, Status.FAILED),
        lambda: leases.count_crash(stale),
    ):
        with pytest.raises(leases.LeaseLost):
            write()
    leases.hand_back(stale)
    job.refresh_from_db()
    assert (job.status, job.worker, job.steps_done) == (Status.RUNNING, "two", 0)
    assert job.events.count() == 0


def test_a_beat_prolongs_the_lease_and_brings_the_cancellation(job):
    held = claim(job)
    Composition.objects.filter(pk=job.pk).update(lease_until=timezone.now() + timedelta(seconds=1))
    assert leases.renew_lease(held) is False
    job.refresh_from_db()
    assert job.lease_until > timezone.now() + LEASE / 2
    leases.cancel(Composition, job.pk)
    assert leases.renew_lease(held) is True


def test_events_are_numbered_on_across_attempts(job):
    held = claim(job)
    leases.append_events(held, [CompositionEvent(kind="stage"), CompositionEvent(kind="step")])
    leases.hand_back(held)
    leases.append_events(claim(job, "two"), [CompositionEvent(kind="stage")])
    assert list(job.events.values_list("number", "generation")) == [(1, 1), (2, 1), (3, 2)]


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked(job):
    claim(job)
    leases.cancel(Composition, job.pk)
    assert (state(job), job.cancel_requested) == (Status.RUNNING, True)
    leases.hand_back(job)
    leases.cancel(Composition, job.pk)
    assert state(job) == Status.CANCELLED


def test_cancelling_a_finished_job_changes_nothing(job):
    leases.finish(claim(job), Status.FAILED, error_code="deadline")
    leases.cancel(Composition, job.pk)
    assert (state(job), job.cancel_requested) == (Status.FAILED, False)


def test_the_sweeper_rings_again_for_a_job_whose_worker_vanished(job):
    claim(job)
    lose_lease(job)
    assert leases.sweep(Composition) == [job.pk]
    assert (state(job), job.crashes) == (Status.QUEUED, 0)
    assert leases.sweep(Composition) == []


def test_the_sweeper_rings_again_for_a_queued_job_whose_bell_was_lost_but_not_at_every_turn(job):
    assert leases.sweep(Composition) == []
    Composition.objects.filter(pk=job.pk).update(updated_at=timezone.now() - leases.REQUEUE_AFTER)
    assert leases.sweep(Composition) == [job.pk]
    assert leases.sweep(Composition) == []


def test_the_sweeper_leaves_a_beating_worker_alone(job):
    claim(job)
    assert leases.sweep(Composition) == []
    assert state(job) == Status.RUNNING


def test_a_cancelled_job_whose_worker_vanished_is_not_done_again(job):
    claim(job)
    leases.cancel(Composition, job.pk)
    lose_lease(job)
    assert claim(job, "two") is None
    assert leases.sweep(Composition) == []
    assert state(job) == Status.CANCELLED
