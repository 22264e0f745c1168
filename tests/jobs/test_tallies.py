"""How jobs end is counted once the end is committed, for all workers together; a count never harms a job."""

import pytest
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from composer.models import Composition
from hub_site.jobs import leases, tallies
from hub_site.jobs.models import CRASHES_MAX, JobCount, StageTime, Status
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401

pytestmark = pytest.mark.usefixtures("wakes")


@pytest.fixture(autouse=True)
def committed_at_once(monkeypatch):
    """The tests' own transaction is never committed."""
    monkeypatch.setattr(transaction, "on_commit", lambda function, **_: function())


def counts():
    return {
        (row.kind, row.outcome, row.code): row.number for row in JobCount.objects.order_by("kind", "outcome")
    }


def claimed(ask):  # noqa: F811
    return leases.claim(Composition, ask().pk, worker="w")


def test_every_end_of_an_attempt_is_counted(ask):  # noqa: F811
    leases.finish(claimed(ask), Status.FAILED, error_code="deadline")
    leases.put_off(claimed(ask), code="hub_unavailable", reason="Away.")
    leases.cancel(Composition, ask().pk)
    lost = claimed(ask)
    Composition.objects.filter(pk=lost.pk).update(lease_until=Now())
    leases.sweep(Composition)
    poison = claimed(ask)
    for _ in range(CRASHES_MAX):
        Composition.objects.filter(pk=poison.pk).update(due_at=Now())
        poison = leases.claim(Composition, poison.pk, worker="w") or poison
        leases.count_crash(poison)
    assert counts() == {
        ("composition", "failed", "deadline"): 1,
        ("composition", "put_off", "hub_unavailable"): 1,
        ("composition", "cancelled", ""): 1,
        ("composition", "lost", ""): 1,
        ("composition", "crashed", ""): CRASHES_MAX,
        ("composition", "failed", "poison"): 1,
    }


def test_who_lost_the_lease_counts_nothing(ask):  # noqa: F811
    composition = claimed(ask)
    Composition.objects.filter(pk=composition.pk).update(generation=composition.generation + 1)
    with pytest.raises(leases.LeaseLost):
        leases.finish(composition, Status.FAILED)
    assert counts() == {}


def test_the_wait_and_the_stages_of_a_finished_composition_are_timed(done):  # noqa: F811
    done()
    assert counts() == {("composition", "done", ""): 1}
    assert StageTime.objects.filter(kind="composition", stage="wait", number=1).exists()


def test_times_fall_under_the_smallest_limit_that_holds_them(db):
    for seconds in (0.05, 0.1, 0.100001, 4000.0):
        tallies.count_stages(Composition, {"search": seconds})
    found = {row.most_s: (row.number, row.seconds) for row in StageTime.objects.all()}
    assert found == {
        0.1: (2, pytest.approx(0.15)),
        0.5: (1, pytest.approx(0.100001)),
        float("inf"): (1, 4000.0),
    }


@pytest.mark.django_db(transaction=True)
def test_a_count_that_cannot_be_written_is_in_the_log_and_changes_nothing(monkeypatch, caplog):
    monkeypatch.undo()

    def refuse(*_):
        raise DatabaseError("no space")

    monkeypatch.setattr(tallies, "_execute", refuse)
    with transaction.atomic():
        tallies.count_ends(Composition, "done")
    assert "no space" in caplog.text
    assert counts() == {}
