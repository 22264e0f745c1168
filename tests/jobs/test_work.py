"""What becomes of a job by how its work ends. An import stands for any job."""

import errno
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisConnectionError

from hub_site.common.errors import Refusal
from hub_site.common.site_faults import SENTENCES
from hub_site.embedded.processes import wait_for
from hub_site.jobs import leases, work
from hub_site.jobs.children import ChildDied, ChildHindered, ChildInterrupted, ChildRefused
from hub_site.jobs.models import CRASHES_MAX, LEASE, PUT_OFF_MAX, Status
from hub_site.jobs.work import Cancelled, HandBack, HeldJob, JobKind, Stopping, keep_lease, run_job
from hub_site.jobs.worker import stopping
from modules_registry.importing.models import ModuleImport
from modules_registry.storage import (
    PASSING_ERRORS,
    AlteredBlobError,
    MissingBlobError,
    RemoteAlteredError,
    RemoteUnavailableError,
    StorageError,
    StorageFaultError,
    StorageFullError,
)
from tests.operations.test_site_faults import from_postgres

IMPORTS = JobKind(ModuleImport)


class ShelfFull(Exception):
    """An error of an app's own, which the loop knows only if it is told."""

    code = "shelf_full"


@pytest.fixture
def job(alice):
    return ModuleImport.objects.create(owner=alice, namespace=alice.namespace, sources=["far"])


@pytest.fixture
def worker_ends():
    stopping.set()
    yield
    stopping.clear()


def raising(error):
    def fail(job):
        raise error

    return fail


def run(job, do, kind=IMPORTS):
    run_job(kind, job.pk, do)
    job.refresh_from_db()
    return job


def test_a_job_is_worked_on_by_this_worker_under_a_lease_and_then_done(job):
    seen = []
    run(job, lambda held: seen.append((held.status, held.worker, held.lease_until > timezone.now())))
    assert seen == [(Status.RUNNING, work.WORKER, True)]
    assert (job.status, job.lease_until) == (Status.DONE, None)
    assert job.finished_at


def test_work_that_closes_its_row_together_with_its_result_is_not_closed_twice(job):
    run(job, lambda held: leases.finish(held, Status.DONE, is_listed=True))
    assert (job.status, job.is_listed) == (Status.DONE, True)


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.CANCELLED])
def test_a_finished_job_is_not_worked_on_again(job, status):
    ModuleImport.objects.update(status=status)
    assert run(job, raising(AssertionError("it was worked on"))).status == status


def test_a_cancelled_job_is_closed_before_what_it_made_is_forgotten(job):
    forgotten = []
    kind = JobKind(ModuleImport, on_cancelled=lambda held: forgotten.append(held.status))
    assert run(job, raising(Cancelled()), kind).status == Status.CANCELLED
    assert forgotten == [Status.CANCELLED]


def test_a_worker_that_ends_hands_the_job_back_to_be_rung_for_at_once(job):
    run(job, raising(Stopping()))
    assert (job.status, job.worker, job.lease_until, job.crashes) == (Status.QUEUED, "", None, 0)
    assert leases.sweep(ModuleImport) == [job.pk]


def test_a_job_handed_back_with_a_delay_is_not_rung_for_before_and_keeps_what_it_says(job):
    run(job, raising(HandBack(delay_s=3600, error_code="hub_unavailable")))
    assert (job.status, job.error_code) == (Status.QUEUED, "hub_unavailable")
    assert leases.sweep(ModuleImport) == []
    assert run(job, raising(AssertionError("it was not due"))).status == Status.QUEUED
    ModuleImport.objects.update(due_at=timezone.now())
    run(job, raising(HandBack()))
    assert leases.sweep(ModuleImport) == [job.pk]


def test_a_child_that_dies_is_counted_and_the_last_death_is_poison(job, caplog):
    for crashes in range(1, CRASHES_MAX):
        run(job, raising(ChildDied(-9)))
        assert (job.status, job.crashes) == (Status.QUEUED, crashes)
        ModuleImport.objects.update(due_at=timezone.now())
    run(job, raising(ChildDied(-9)))
    assert (job.status, job.error_code) == (Status.FAILED, "poison")
    assert f"ModuleImport {job.pk} failed: poison" in caplog.text


def test_the_log_names_the_stored_file_that_is_missing_though_the_page_does_not(job, caplog):
    kind = JobKind(ModuleImport, passing=(MissingBlobError,))
    assert "ab12" not in run(job, raising(MissingBlobError("ab12")), kind).put_off_reason
    assert f"{job.pk} waits: file_missing: A stored file is missing" in caplog.text
    assert "(sha256 ab12)" in caplog.text


def test_a_refusal_for_want_of_space_is_waited_for_with_its_own_words(job):
    run(job, raising(Refusal("disk_full", "It needs 4 MB on the disk, and 3 MB are free.", status=507)))
    assert (job.status, job.error_code) == (Status.QUEUED, "")
    assert job.put_off_reason == "It needs 4 MB on the disk, and 3 MB are free."


def test_a_child_that_the_machine_ended_is_no_crash_of_the_job(job):
    for _ in range(CRASHES_MAX + 1):
        run(job, raising(ChildInterrupted(None)))
        assert (job.status, job.crashes) == (Status.QUEUED, 0)
        assert job.put_off_reason == SENTENCES["machine_fault"]
        ModuleImport.objects.update(due_at=timezone.now())


@pytest.mark.usefixtures("worker_ends")
def test_a_child_that_dies_while_its_worker_is_asked_to_end_is_no_crash_of_the_job(job):
    run(job, raising(ChildDied(-9)))
    assert (job.status, job.crashes, job.put_off_since) == (Status.QUEUED, 0, None)
    assert leases.sweep(ModuleImport) == [job.pk]


@pytest.mark.parametrize(
    "refusal", [Refusal("too_many", "Take fewer."), ChildRefused("too_many", "Take fewer.")]
)
def test_a_refusal_closes_the_row_with_its_code_and_its_sentence(job, refusal, caplog):
    run(job, raising(refusal))
    assert f"ModuleImport {job.pk} failed: too_many: Take fewer." in caplog.text
    assert (job.status, job.error_code, job.error_message) == (Status.FAILED, "too_many", "Take fewer.")


def test_a_kind_of_job_has_its_own_sentence_for_a_code(job):
    kind = JobKind(ModuleImport, sentences={"too_many": "Take five."})
    assert run(job, raising(Refusal("too_many", "Take fewer.")), kind).error_message == "Take five."


def test_an_app_s_own_error_is_a_refusal_only_where_the_app_says_so(job):
    kind = JobKind(ModuleImport, refusals=(ShelfFull,))
    run(job, raising(ShelfFull("The shelf is full.")), kind)
    assert (job.error_code, job.error_message) == ("shelf_full", "The shelf is full.")
    ModuleImport.objects.update(status=Status.QUEUED)
    with pytest.raises(ShelfFull):
        run(job, raising(ShelfFull("The shelf is full.")))
    job.refresh_from_db()
    assert job.error_code == "broken"


FAULTS_OF_THE_SITE = [
    OperationalError("server closed the connection unexpectedly"),
    InterfaceError("connection already closed"),
    from_postgres(InternalError, psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE")),
    BrokerError("[Errno 111] Connection refused"),
    RedisConnectionError("Connection closed by server."),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    ChildHindered("disk_full", "No space left on device"),
    ChildHindered("machine_fault", "Read-only file system"),
]


@pytest.mark.parametrize("fault", FAULTS_OF_THE_SITE)
def test_a_fault_of_the_site_fails_no_job(job, fault):
    for _ in range(CRASHES_MAX + 1):
        run(job, raising(fault))
        assert (job.status, job.worker, job.crashes, job.error_code) == (Status.QUEUED, "", 0, "")
        assert job.put_off_reason in SENTENCES.values()
        if leases.sweep(ModuleImport) == []:  # the first fault of a machine alone is due at once
            assert run(job, raising(AssertionError("it was not due"))).status == Status.QUEUED
            ModuleImport.objects.update(due_at=timezone.now())
    assert run(job, lambda held: None).status == Status.DONE
    assert job.put_off_reason == ""


@pytest.mark.parametrize("fault", [FileNotFoundError(errno.ENOENT, "gone"), ValueError("odd")])
def test_any_other_error_is_no_fault_of_the_site(job, fault):
    with pytest.raises(type(fault)):
        run(job, raising(fault))
    job.refresh_from_db()
    assert (job.status, job.error_code) == (Status.FAILED, "broken")


def test_an_app_s_own_fault_of_the_site_puts_the_job_off_with_the_app_s_sentence(job):
    kind = JobKind(ModuleImport, passing=(ShelfFull,), refusals=(ShelfFull,))
    run(job, raising(ShelfFull("The shelf is full.")), kind)
    assert (job.status, job.put_off_reason) == (Status.QUEUED, "The shelf is full.")
    refusal = Refusal("shelf_full", "Nothing was stored.")
    refusal.__cause__ = ShelfFull("The shelf is full.")
    assert run(job, raising(refusal), kind).status == Status.QUEUED


@pytest.mark.parametrize(
    "fault",
    [
        StorageFullError(),
        StorageFaultError("Permission denied"),
        MissingBlobError("ab12"),
        AlteredBlobError("ab12"),
        RemoteUnavailableError("is busy"),
    ],
)
def test_a_fault_of_the_storage_puts_a_job_off_and_asks_its_reader_for_nothing(job, fault):
    kind = JobKind(ModuleImport, passing=PASSING_ERRORS, refusals=(StorageError,))
    run(job, raising(fault), kind)
    assert (job.status, job.put_off_reason) == (Status.QUEUED, fault.sentence)
    assert "again" not in job.put_off_reason


def test_a_file_that_the_hub_altered_fails_the_job_for_no_other_copy_comes(job):
    kind = JobKind(ModuleImport, passing=PASSING_ERRORS, refusals=(StorageError,))
    run(job, raising(RemoteAlteredError("weights", "alice/french")), kind)
    assert (job.status, job.error_code) == (Status.FAILED, "hub_altered")


@pytest.mark.parametrize(("waited_s", "wait_s"), [(0, 5), (100, 100), (3600, 600)])
def test_a_job_waits_as_long_again_as_it_has_waited(job, waited_s, wait_s):
    ModuleImport.objects.update(put_off_since=timezone.now() - timedelta(seconds=waited_s))
    run(job, raising(FAULTS_OF_THE_SITE[0]))
    assert (job.due_at - timezone.now()).total_seconds() == pytest.approx(wait_s, abs=2)


def test_a_fault_of_the_site_that_lasts_a_day_fails_the_job_and_progress_begins_the_day_anew(job, caplog):
    long_ago = timezone.now() - PUT_OFF_MAX
    ModuleImport.objects.update(put_off_since=long_ago)

    def advance(held):
        held_row = ModuleImport.objects.held(held.generation)
        held_row.update(**leases.PROGRESS)
        raise FAULTS_OF_THE_SITE[0]

    assert run(job, advance).status == Status.QUEUED
    ModuleImport.objects.update(put_off_since=long_ago, due_at=long_ago)
    run(job, raising(FAULTS_OF_THE_SITE[0]))
    assert (job.status, job.error_code) == (Status.FAILED, "database_unreachable")
    assert "within a day" in job.error_message
    assert f"{job.pk} failed: database_unreachable: The site's database" in caplog.text


def drop_connection(pid):
    """As when a firewall or a restart of the server ends it."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])


def own_pid():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_dropped_connection_between_two_beats_is_not_even_noticed(job):
    def work_on(held):
        drop_connection(own_pid())
        HeldJob(held).renew()

    assert run(job, work_on).status == Status.DONE


@pytest.mark.django_db(transaction=True)
def test_a_dropped_connection_in_the_middle_of_the_work_puts_the_job_off(job):
    def work_on(held):
        drop_connection(own_pid())
        ModuleImport.objects.update(is_listed=True)

    assert run(job, work_on).status == Status.QUEUED
    assert job.put_off_reason == SENTENCES["database_unreachable"]


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_kept_over_a_dropped_connection_of_its_thread(job, monkeypatch):
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.05)
    held = leases.claim(ModuleImport, job.pk, worker="tests")

    def others():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query LIKE '%importing_moduleimport%'"
            )
            return [row[0] for row in cursor.fetchall()]

    with keep_lease(held):
        assert wait_for(others, timeout_s=10)
        dropped = others()[0]
        drop_connection(dropped)
        assert wait_for(lambda: [pid for pid in others() if pid != dropped], timeout_s=10)
        ModuleImport.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
        assert wait_for(
            lambda: ModuleImport.objects.get().lease_until > timezone.now() + LEASE / 2, timeout_s=10
        )


def test_an_unforeseen_error_is_told_neutrally_and_reaches_the_log(job):
    with pytest.raises(ZeroDivisionError):
        run(job, raising(ZeroDivisionError("of a secret")), JobKind(ModuleImport, broken_message="It broke."))
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_message) == (Status.FAILED, "broken", "It broke.")


@pytest.mark.parametrize(
    "outcome", [None, Cancelled(), HandBack(), ChildDied(1), Refusal("no", "No."), ZeroDivisionError()]
)
def test_a_worker_that_lost_its_lease_writes_nothing_whatever_comes_of_its_work(job, outcome):
    def lose(held):
        ModuleImport.objects.update(generation=held.generation + 1, worker="another")
        if outcome is not None:
            raise outcome

    run(job, lose)
    assert (job.status, job.worker, job.error_code, job.crashes) == (Status.RUNNING, "another", "", 0)


# Keeping the lease ------------------------------------------------------------


def test_a_held_job_beats_and_hears_of_a_cancellation(job):
    def check(held):
        ModuleImport.objects.update(lease_until=timezone.now())
        HeldJob(held).check()
        assert ModuleImport.objects.get().lease_until > timezone.now() + LEASE / 2
        leases.cancel(ModuleImport, held.pk)
        HeldJob(held).check()

    assert run(job, check).status == Status.CANCELLED


def test_a_held_job_does_not_beat_more_often_than_it_has_to(job):
    beats = []
    held = HeldJob(leases.claim(ModuleImport, job.pk, worker="w"), lambda: beats.append(1))
    for _ in range(5):
        held.check()
    assert len(beats) == 1
    held.renew()
    assert len(beats) == 2


def test_a_wait_is_as_long_as_asked_and_beats_meanwhile(job, monkeypatch):
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.05)
    beats, began = [], time.monotonic()
    HeldJob(leases.claim(ModuleImport, job.pk, worker="w"), lambda: beats.append(1)).wait(0.3)
    assert time.monotonic() - began >= 0.3
    assert len(beats) > 2


def test_a_wait_ends_as_soon_as_the_worker_is_asked_to_end(job):
    threading.Timer(0.1, stopping.set).start()
    try:
        assert run(job, lambda held: HeldJob(held).wait(600)).status == Status.QUEUED
    finally:
        stopping.clear()


@pytest.mark.usefixtures("worker_ends")
def test_a_check_hands_the_job_back_once_the_worker_is_asked_to_end(job):
    assert run(job, lambda held: HeldJob(held).check()).status == Status.QUEUED


@pytest.mark.django_db(transaction=True)
def test_a_thread_keeps_the_lease_of_work_that_cannot_look_up(job, monkeypatch):
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.05)
    with keep_lease(leases.claim(ModuleImport, job.pk, worker="w")):
        ModuleImport.objects.update(lease_until=timezone.now())
        assert wait_for(
            lambda: ModuleImport.objects.get().lease_until > timezone.now() + LEASE / 2, timeout_s=10
        )
    assert ModuleImport.objects.get().status == Status.RUNNING


@pytest.mark.django_db(transaction=True)
def test_a_thread_hands_the_job_back_while_the_work_still_waits(job, monkeypatch):
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.05)

    def transfer(held):
        with keep_lease(held):
            stopping.set()
            assert wait_for(lambda: ModuleImport.objects.get().status == Status.QUEUED, timeout_s=10)

    try:
        assert run(job, transfer).status == Status.QUEUED
    finally:
        stopping.clear()
