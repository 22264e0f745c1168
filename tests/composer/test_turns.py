"""Whose turn it is, which worker may take it, and when that will be."""

from datetime import timedelta

import pytest
from django.utils import timezone

from composer.models import Attempt, Composition
from composer.run import runner
from composer.timing import queue
from composer.timing.queue import Place, WaitingJob, place_of, play_forward, running_jobs, waiting_jobs
from composer.timing.turns import waiting_in_turn
from hub_site.jobs import leases
from hub_site.jobs.presence import announce

pytestmark = pytest.mark.usefixtures("wakes")


@pytest.fixture(autouse=True)
def room(settings):
    settings.HUB_COMPOSITIONS_UNFINISHED_MAX = 100


@pytest.fixture
def queue_up(ask):
    """Jobs in the queue, each so many seconds after the one before; `long` puts one into that lane."""
    began = timezone.now() - timedelta(hours=1)

    def add(owner, *, after_s=0.0, **columns):
        composition = ask(owner=owner, seed=Composition.objects.count())
        columns = {"is_quick": True, "estimated_s": 8.0} | columns
        created_at = began + timedelta(seconds=after_s)
        Composition.objects.filter(pk=composition.pk).update(created_at=created_at, due_at=began, **columns)
        return composition

    return add


def serve(count: int, *, is_quick: bool = True) -> list[Composition]:
    """Claim one after the other, as a worker does."""
    served = []
    while len(served) < count and (job := runner.claim_next(is_quick)):
        Attempt.objects.create(owner=job.owner, composition_id=job.pk, is_quick=is_quick)
        served.append(job)
    return served


def test_accounts_take_turns_however_many_jobs_one_has(queue_up, alice, bob, charlie):
    many = [queue_up(alice, after_s=n) for n in range(4)]
    bobs, charlies = queue_up(bob, after_s=10), queue_up(charlie, after_s=11)
    assert serve(6) == [many[0], bobs, charlies, *many[1:]]


def test_between_two_jobs_of_an_account_each_other_account_gets_one_at_most(queue_up, alice, bob):
    alices = [queue_up(alice, after_s=n) for n in range(2)]
    bobs = [queue_up(bob, after_s=n + 0.5) for n in range(3)]
    assert serve(5) == [alices[0], bobs[0], alices[1], bobs[1], bobs[2]]


def test_accounts_that_were_never_served_come_before_a_second_job(queue_up, alice, bob, charlie):
    many = [queue_up(alice, after_s=n / 10) for n in range(5)]
    assert serve(1) == [many[0]]
    later = [queue_up(owner, after_s=3600 + n) for n, owner in enumerate((bob, charlie))]  # after the service
    told = [place_of(job).n_ahead for job in (*later, many[1])]
    assert told == [0, 1, 2]
    assert serve(6) == [*later, *many[1:]]


def test_who_was_served_longest_ago_is_next_whoever_asked_first(queue_up, alice, bob, charlie):
    alices, bobs, charlies = (queue_up(owner, after_s=n) for n, owner in enumerate((alice, bob, charlie)))
    for minutes, job in ((1, alices), (3, bobs), (2, charlies)):
        began_at = timezone.now() - timedelta(minutes=minutes)
        Attempt.objects.create(owner=job.owner, composition_id=job.pk, is_quick=True, began_at=began_at)
    assert [place_of(job).n_ahead for job in (bobs, charlies, alices)] == [0, 1, 2]
    assert serve(3) == [bobs, charlies, alices]


def test_what_is_asked_for_later_by_others_never_comes_before(queue_up, alice, bob):
    old = queue_up(alice)
    Attempt.objects.create(owner=alice, composition_id=old.pk, is_quick=False)  # of the other lane: no matter
    newer = [queue_up(bob, after_s=1), queue_up(bob, after_s=2)]
    assert serve(3) == [old, *newer]


def test_deleting_what_is_done_wins_no_turn(queue_up, alice, bob, done):
    first, second = queue_up(alice), queue_up(alice, after_s=1)
    bobs = queue_up(bob, after_s=2)
    assert serve(1) == [first]
    Composition.objects.filter(pk=first.pk).delete()
    assert serve(2) == [bobs, second]


def test_a_job_that_was_begun_keeps_its_turn(queue_up, alice, bob):
    alices, _bobs = queue_up(alice), queue_up(bob, after_s=1)
    (held,) = serve(1)
    Composition.objects.filter(pk=held.pk).update(started_at=timezone.now() - timedelta(minutes=70))
    leases.hand_back(held)
    assert serve(1) == [alices]


def test_a_job_that_is_put_off_is_passed_over_until_it_is_due(queue_up, alice, bob):
    queue_up(alice)
    bobs = queue_up(bob, after_s=1)
    (held,) = serve(1)
    leases.put_off(held, code="disk_full", reason="The site's disk is full.")
    assert serve(2) == [bobs]
    Composition.objects.filter(pk=held.pk).update(due_at=timezone.now())
    assert serve(1) == [held]


def test_a_begun_job_whose_launcher_died_goes_on_before_all_others(queue_up, alice, bob):
    queue_up(alice)
    bobs = queue_up(bob, after_s=1)
    (held,) = serve(1)
    leases.put_off(held, code="machine_fault", reason="A machine of the site has a fault.")
    assert serve(2) == [held, bobs]


def test_each_lane_is_served_by_itself(queue_up, alice):
    long, quick = queue_up(alice, is_quick=False), queue_up(alice, after_s=1)
    assert serve(9, is_quick=True) == [quick]
    assert serve(9, is_quick=False) == [long]


def test_a_worker_takes_only_what_it_has_the_memory_and_the_card_for(queue_up, alice, settings, monkeypatch):
    settings.HUB_COMPOSE_MEMORY_MB = 4096
    fits = queue_up(alice, memory_mb=4096)
    card, _large = queue_up(alice, device="cuda", after_s=1), queue_up(alice, memory_mb=4097, after_s=2)
    monkeypatch.setattr(runner, "has_cuda", lambda: False)
    assert serve(9) == [fits]
    monkeypatch.setattr(runner, "has_cuda", lambda: True)
    assert serve(9) == [card]


def test_the_place_that_is_told_is_the_order_in_which_they_are_taken(queue_up, alice, bob, charlie):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    for owner, count in ((alice, 5), (bob, 2), (charlie, 1)):
        for number in range(count):
            queue_up(owner, after_s=number + count / 10)
    told = sorted(waiting_in_turn(is_quick=True), key=lambda job: place_of(job).n_ahead)
    assert told == serve(9)


@pytest.mark.parametrize(
    ("running", "begins"),
    [
        ([], {"long": 0.0, "quick 0": 0.0, "quick 1": 8.0, "quick 2": 16.0}),
        ([(300.0, False)], {"quick 0": 0.0, "quick 1": 8.0, "quick 2": 16.0, "long": 300.0}),
        ([(5.0, True), (6.0, True)], {"long": 5.0, "quick 0": 6.0, "quick 1": 14.0, "quick 2": 22.0}),
    ],
    ids=["a free worker", "a long job runs", "quick ones run"],
)
def test_quick_jobs_never_wait_for_a_long_one_and_the_long_one_not_for_all_of_them(running, begins):
    quick = [WaitingJob(f"quick {n}", n, True, 8.0, asked_s=-9.0 + n) for n in range(3)]
    waiting = [*quick, WaitingJob("long", 9, False, 600.0, asked_s=-1.0)]
    assert play_forward(waiting, running, n_slots=2, n_long_slots=1) == begins


def test_more_workers_make_the_wait_shorter():
    waiting = [WaitingJob(n, n, True, 10.0, asked_s=-n) for n in range(12)]
    last = [max(play_forward(waiting, [], slots, slots // 2).values()) for slots in (2, 4, 12)]
    assert last == [50.0, 20.0, 0.0]


def test_a_program_reads_its_place_while_it_waits(queue_up, alice, bob, api_of):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    owners = enumerate((alice, bob, alice))
    _first, _second, waiting = (queue_up(owner, estimated_s=30, after_s=number) for number, owner in owners)
    address = f"/api/v1/compositions/{waiting.pk}"
    assert api_of(alice).get(address).json()["queue"] == {"n_ahead": 2, "wait_s": 30.0}
    leases.claim(Composition, waiting.pk, worker="w")
    assert api_of(alice).get(address).json()["queue"] is None


@pytest.mark.parametrize(
    ("due_s", "place"),
    [(-1.0, Place(0, 0.0)), (5.0, Place(1, 8.0)), (12.0, Place(2, 16.0)), (600.0, Place(4, 600.0))],
    ids=["due", "soon", "while another one runs", "later than all others"],
)
def test_a_job_that_is_put_off_is_behind_those_that_begin_before_it_is_due(due_s, place):
    """It has the first turn of those that wait; the others begin at 0, 8, 16 and 24 s."""
    others = [WaitingJob(n, n, True, 8.0, asked_s=-9.0 + n) for n in range(4)]
    put_off = WaitingJob("put off", 9, True, 8.0, asked_s=-60.0, due_s=due_s)
    begins = play_forward([*others, put_off], [], n_slots=1, n_long_slots=1)
    assert Place(list(begins).index("put off"), begins["put off"]) == place


def test_a_job_that_was_taken_meanwhile_is_told_no_wait_and_one_put_off_its_due_time(queue_up, alice, bob):
    taken, put_off, last = (queue_up(owner, after_s=n) for n, owner in enumerate((alice, bob, alice)))
    leases.claim(Composition, taken.pk, worker="w")
    Composition.objects.filter(pk=put_off.pk).update(due_at=timezone.now() + timedelta(seconds=90))
    assert place_of(taken) == Place(0, 0.0)
    assert place_of(put_off).wait_s == pytest.approx(90, abs=5)
    assert place_of(last).n_ahead == 0


@pytest.mark.parametrize("others", [0, 2])
def test_one_that_a_worker_takes_between_two_reads_has_nobody_before_it(
    queue_up, alice, bob, monkeypatch, others
):
    taken = queue_up(alice)
    for _ in range(others):
        queue_up(bob)

    def take_and_read(now):
        leases.claim(Composition, taken.pk, worker="w")
        return waiting_jobs(now)

    monkeypatch.setattr(queue, "waiting_jobs", take_and_read)
    assert place_of(taken) == Place(0, 0.0)


def test_one_behind_those_that_are_read_has_all_others_before_it(queue_up, alice, bob, monkeypatch):
    monkeypatch.setattr(queue, "READ_MAX", 1)
    _, second, third = (queue_up(owner, after_s=n) for n, owner in enumerate((alice, bob, alice)))
    assert [place_of(job).n_ahead for job in (second, third)] == [2, 2]


def test_what_a_job_has_taken_counts_from_its_present_attempt(queue_up, alice):
    job = queue_up(alice, estimated_s=60.0)
    now = timezone.now()
    leases.claim(Composition, job.pk, worker="w")
    Composition.objects.filter(pk=job.pk).update(started_at=now - timedelta(hours=2))
    for seconds in (7200, 10):
        began_at = now - timedelta(seconds=seconds)
        Attempt.objects.create(owner=alice, composition_id=job.pk, is_quick=True, began_at=began_at)
    assert running_jobs(now) == [(pytest.approx(50.0), True)]
