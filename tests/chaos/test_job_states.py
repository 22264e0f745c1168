"""A job's row under everything that can happen to it, in any order: its promises hold after every step."""

from copy import copy
from datetime import timedelta
from unittest import mock

import pytest
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from composer.models import Composition, CompositionEvent
from hub_site.accounts.services import user_create
from hub_site.jobs import leases
from hub_site.jobs.models import CRASHES_MAX, FINISHED, PUT_OFF_MAX, Status
from modules_registry.models import BaseModel
from tests.chaos.conftest import times

RUNS = times(40, 2000)
STEPS = 30
JOBS_MAX = 2  # unfinished ones: few, so that much happens to each
ACTIONS = {
    "beat": leases.renew_lease,
    "tell": None,
    "crash": leases.count_crash,
    "fault of the site": lambda held: leases.put_off(held, code="disk_full", reason="Full."),
    "hand back": None,
    "finish": lambda held: leases.finish(held, Status.FAILED, error_code="done"),
}
BACK = st.sampled_from([0, 0, 0, 1, 2])  # claims before the last one
SKEWS = st.sampled_from([-60, 0, 60])


class JobRow(RuleBasedStateMachine):
    """Rows of jobs, and what each worker that ever claimed one still believes to hold."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        CompositionEvent.objects.all()._raw_delete("default")
        Composition.objects.all()._raw_delete("default")
        self.owner_id, self.base_id = JobRow.owner_id, JobRow.base_id
        self.ended: dict = {}  # job -> its row when it was first seen finished
        self.generations: dict = {}  # job -> the last generation that was seen
        self.told: dict = {}  # job -> events that were stored
        self.claims: dict = {}  # job -> what its workers hold, or held
        self.advanced: dict = {}  # job -> whether its last attempt advanced
        self.clock = mock.patch.object(timezone, "now", timezone.now)
        self.clock.start()

    def teardown(self) -> None:
        self.clock.stop()

    @rule(seconds=SKEWS)
    def skew(self, seconds):
        """The clock of this machine jumps; the database's does not."""
        self.clock.stop()
        wrong = timezone.now() + timedelta(seconds=seconds)
        self.clock = mock.patch.object(timezone, "now", return_value=wrong)
        self.clock.start()

    @initialize(target=jobs)
    def submit_first(self):
        return self.submit_one()

    @precondition(lambda self: len(self.generations) - len(self.ended) < JOBS_MAX)
    @rule(target=jobs)
    def submit(self):
        return self.submit_one()

    def submit_one(self):
        return Composition.objects.create(
            owner_id=self.owner_id, base_id=self.base_id, name="t", method="exact", budget=5, seed=1
        ).pk

    @rule(job=jobs)
    def claim(self, job):
        """A worker takes it; the message may come twice, or two workers look at the same row."""
        self.take(job)

    def read(self, job):
        """Its row, and what the database's clock says."""
        return Composition.objects.annotate(now=Now()).get(pk=job)

    def take(self, job):
        """Return its row as it is then."""
        before = self.read(job)
        is_free = before.status == Status.QUEUED and before.due_at <= before.now
        held = leases.claim(Composition, job, worker="w")
        assert (held is not None) == is_free
        if held is not None:
            assert (held.generation, held.crashes) == (before.generation + 1, before.crashes)
            self.claims.setdefault(job, []).append(held)
            self.advanced[job] = False
        return copy(held or before)  # what is done to the claim changes the object

    def write(self, row, back, do) -> bool:
        """A worker writes, the last one or one before: it works exactly if the row is still that worker's."""
        claims = self.claims.get(row.pk, [])
        if len(claims) <= back:
            return False
        claim = claims[-1 - back]
        is_held = row.status == Status.RUNNING and row.generation == claim.generation
        try:
            do(claim)
        except leases.LeaseLost:
            assert not is_held
            return False
        assert is_held
        return True

    @rule(job=jobs, back=BACK, action=st.sampled_from(sorted(ACTIONS)), is_progress=st.booleans())
    def work(self, job, back, action, is_progress):
        """A worker that took it if it could do something to it: the last worker, or one before."""
        before = self.take(job)
        if action == "tell":
            progress = leases.PROGRESS if is_progress else {}
            event = CompositionEvent(kind="step")
            if self.write(before, back, lambda held: leases.append_events(held, [event], progress=progress)):
                self.told[job] = self.told.get(job, 0) + 1
                self.advanced[job] = self.advanced[job] or is_progress
        elif action == "hand back":
            claims = self.claims.get(job, [])
            if len(claims) > back:
                leases.hand_back(claims[-1 - back])  # harmless where it is another worker's
        elif self.write(before, back, ACTIONS[action]):
            self.check_outcome(action, before, self.read(job))

    def check_outcome(self, action, before, row):
        if action == "beat":
            assert row.lease_until > row.now
        if action == "crash":
            crashes = 0 if self.advanced[row.pk] else before.crashes + 1
            ended = (Status.FAILED, "poison") if crashes == CRASHES_MAX else (Status.QUEUED, "")
            assert (row.status, row.error_code, row.crashes) == (*ended, crashes)
        if action == "fault of the site":
            self.check_put_off(before, row, error_code="disk_full")
            assert row.status == Status.FAILED or row.due_at > row.now
            self.make_wait(row)

    def check_put_off(self, before, row, *, error_code):
        """It is no crash: the job waits, but not for longer than a day."""
        assert row.crashes == before.crashes
        since = before.put_off_since
        if since is not None and since <= row.now - PUT_OFF_MAX:
            assert (row.status, row.error_code) == (Status.FAILED, error_code)
        else:
            assert (row.status, row.error_code) == (Status.QUEUED, "")
            assert row.put_off_since == since or since is None

    def make_wait(self, row):
        """Its time to wait passes in `wait` alone, however slow this machine is."""
        waiting = Composition.objects.filter(pk=row.pk, status=Status.QUEUED)
        waiting.update(due_at=Now() + timedelta(hours=1))

    @rule(job=jobs)
    def expire(self, job):
        """The worker is silent for longer than a lease."""
        running = Composition.objects.filter(pk=job, status=Status.RUNNING)
        running.update(lease_until=Now() - timedelta(seconds=1))

    @rule(job=jobs)
    def wait(self, job):
        """What a job was put off for has passed."""
        Composition.objects.filter(pk=job).update(due_at=Now())

    @rule(job=jobs, really=st.sampled_from([False, False, True]))
    def wait_for_a_day(self, job, really):
        """A fault of the site has not passed since then."""
        if really:
            put_off = Composition.objects.filter(pk=job, put_off_since__isnull=False)
            put_off.update(put_off_since=Now() - PUT_OFF_MAX)

    @rule(job=jobs, really=st.sampled_from([False, False, True]))
    def cancel(self, job, really):
        if not really:  # what is cancelled does nothing more
            return
        leases.cancel(Composition, job)
        row = Composition.objects.get(pk=job)
        assert row.status in FINISHED or row.cancel_requested

    @rule()
    def sweep(self):
        lost = list(Composition.objects.lost())
        leases.sweep(Composition)
        assert not Composition.objects.lost().exists()
        for before in lost:
            row = self.read(before.pk)
            if before.cancel_requested:
                assert row.status == Status.CANCELLED
            else:
                self.check_put_off(before, row, error_code="machine_fault")
                if before.put_off_since is not None:  # the first time it is due at once
                    self.make_wait(row)

    @invariant()
    def every_row_keeps_its_promises(self):
        told = CompositionEvent.objects.filter(job=OuterRef("pk")).order_by("number").values("number")
        for row in Composition.objects.annotate(numbers=ArraySubquery(told)):
            assert (row.lease_until is not None) == (row.status == Status.RUNNING)
            assert row.crashes <= CRASHES_MAX
            assert row.crashes < CRASHES_MAX or row.error_code == "poison"
            assert row.generation >= self.generations.get(row.pk, 0)
            assert (row.finished_at is not None) == (row.status in FINISHED)
            self.generations[row.pk] = row.generation
            assert row.numbers == list(range(1, self.told.get(row.pk, 0) + 1))
            end = (row.status, row.generation, row.error_code, row.finished_at, row.crashes)
            if row.status in FINISHED:
                assert self.ended.setdefault(row.pk, end) == end  # what is finished stays as it is


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_order_of_events_breaks_a_promise_of_the_row(db, record):
    JobRow.owner_id = user_create(username="alice").pk
    base = {"name": "t/b", "revision": "1", "kind": "seq2seq", "architecture": "T5", "parameters": 1}
    JobRow.base_id = BaseModel.objects.create(**base).pk
    run_state_machine_as_test(
        JobRow,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    record(runs=RUNS, steps_at_most=STEPS)
