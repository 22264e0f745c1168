"""What breaks in between: a Hub that is away, a wish taken back, a worker that is killed."""

import errno
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from hub_site.common.errors import Refusal
from hub_site.common.site_faults import SENTENCES
from hub_site.embedded.processes import wait_for
from hub_site.jobs.children import ChildHindered, ChildInterrupted
from hub_site.jobs.models import Status
from modules_registry.importing import runner
from modules_registry.importing.models import ImportItem, ModuleImport
from modules_registry.importing.selectors import sources_left
from modules_registry.importing.services import import_cancel, import_request
from modules_registry.models import Module
from tests.faulty_hub import faulty_hub, silent, status
from tests.modules_registry.importing.repositories import repository
from tests.served_site import ServedSite

WORK = """
import django, sys, uuid; django.setup()
from modules_registry.importing import runner
runner.import_run(uuid.UUID(sys.argv[1]))
"""
WORKER_TIMEOUT_S = 60


@pytest.fixture
def faulty(hub, settings):
    """A Hub that spoils what it is told to."""
    with faulty_hub(settings.HUB_IMPORT_ENDPOINT) as front:
        settings.HUB_IMPORT_ENDPOINT = front.endpoint
        yield front


def asked(alice, *sources):
    return import_request(owner=alice, namespace=alice.namespace, sources=sources, enqueue=False)


def run(job):
    runner.import_run(job.pk)
    job.refresh_from_db()
    return job


def refusal_from(cause):
    refusal = Refusal("storage_failed", "A file could not be written.")
    refusal.__cause__ = cause
    return refusal


def states(job):
    return [item.state for item in job.items.all()]


def test_a_hub_that_is_away_ends_the_import_after_a_few_with_one_sentence(faulty, impatient, alice, base):
    faulty.spoil("GET", "/", status(503), times=1000)
    job = run(asked(alice, *(f"far/{number}" for number in range(50))))
    assert (job.status, job.error_code) == (Status.FAILED, "hub_away")
    assert job.error_message == (
        f"The Hub at {faulty.endpoint} does not answer, or is too busy. Try again in a few minutes."
    )
    assert states(job) == ["refused"] * 3 + ["waiting"] * 47


def test_a_hub_that_is_away_when_an_owner_is_asked_for_fails_the_import(faulty, impatient, alice):
    faulty.spoil("GET", "/api/models", status(503), times=1000)
    job = run(asked(alice, "far"))
    assert (job.status, job.error_code, job.is_listed) == (Status.FAILED, "hub_away", False)


def test_a_hub_that_stumbles_is_asked_again(faulty, impatient, alice, base):
    faulty.spoil("GET", "far/good", status(502), times=2)
    assert states(run(asked(alice, "far/good"))) == ["imported"]


def test_some_in_between_that_answer_keep_an_import_alive(faulty, impatient, alice, base):
    for name in ("a", "b", "d"):
        faulty.spoil("GET", f"far/{name}/", status(503), times=1000)
    job = run(asked(alice, "far/a", "far/b", "far/good", "far/d"))
    assert job.status == Status.DONE
    assert states(job) == ["refused", "refused", "imported", "refused"]


def test_an_owner_with_too_much_fails_the_import_before_anything_comes_in(hub, alice, settings):
    settings.HUB_IMPORT_REPOSITORIES_MAX = 3
    job = run(asked(alice, "far"))
    assert (job.status, job.error_code, states(job)) == (Status.FAILED, "too_many_repositories", [])


def test_an_owner_without_anything_is_refused_and_the_rest_of_the_list_comes_in(hub, alice, base):
    job = run(asked(alice, "nobody", "far/good"))
    assert states(job) == ["refused", "imported"]
    assert job.items.first().code == "nothing_there"
    assert sources_left(job) == ["nobody"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ChildInterrupted(None), "machine_fault"),
        (ChildHindered("machine_fault", "[Errno 5] Input/output error"), "machine_fault"),
        (ChildHindered("disk_full", "[Errno 28] No space left on device"), "disk_full"),
        (refusal_from(OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
    ],
)
def test_a_fault_of_the_site_in_a_conversion_puts_the_import_off(hub, alice, base, monkeypatch, fault, code):
    def interrupted(*_):
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(runner, "convert_checkpoint", interrupted)
        job = run(asked(alice, "far/good"))
    assert (job.status, job.crashes, states(job)) == (Status.QUEUED, 0, ["waiting"])
    assert job.put_off_reason == SENTENCES[code]
    ModuleImport.objects.update(due_at=timezone.now())
    assert states(run(job)) == ["imported"]


def test_the_operator_s_token_is_for_staff_only(faulty, alice, staff, base, settings):
    settings.HUB_IMPORT_TOKEN = "hf_of_the_operator"
    run(asked(alice, "far/good"))
    assert set(faulty.tokens) == {""}
    run(asked(staff, "far/good"))
    assert "Bearer hf_of_the_operator" in faulty.tokens


@pytest.mark.django_db(transaction=True)
def test_a_running_import_is_cancelled_and_keeps_what_came_in(faulty, alice, base):
    job = asked(alice, "far/good", "far/wrong-rank", "far/empty")

    def cancel(handler):
        import_cancel(owner=alice, import_id=job.pk)
        connection.close()  # of the Hub's thread
        handler.pass_on()

    faulty.spoil("GET", "far/wrong-rank", cancel)
    assert run(job).status == Status.CANCELLED
    first, _, last = states(job)  # the one that was under way may still come in
    assert (first, last) == ("imported", "waiting")
    assert Module.objects.filter(name="good").exists()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_s_import_is_gone_on_with(hub, faulty, alice, base, data_folder):
    hub["far/second"] = repository()
    job, over = asked(alice, "far/good", "far/second"), threading.Event()
    faulty.spoil("GET", "far/second/resolve", silent(over))
    environment = ServedSite(data_folder, HUB_IMPORT_ENDPOINT=faulty.endpoint).environment
    worker = subprocess.Popen([sys.executable, "-c", WORK, str(job.pk)], env=environment)
    try:
        assert wait_for(
            lambda: any("far/second/resolve" in line for line in faulty.asked), timeout_s=WORKER_TIMEOUT_S
        )
    finally:
        worker.kill()
        worker.wait(timeout=WORKER_TIMEOUT_S)
        over.set()
    assert states(job) == ["imported", "waiting"]
    assert len(list(runner.imports_folder().iterdir())) == 1
    assert runner.sweep() == []  # its lease has not run out yet
    runner.remove_left_folders()
    assert len(list(runner.imports_folder().iterdir())) == 1
    ModuleImport.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert runner.sweep() == [job.pk]
    job.refresh_from_db()
    assert (job.crashes, job.put_off_reason) == (0, SENTENCES["machine_fault"])
    runner.remove_left_folders()
    assert list(runner.imports_folder().iterdir()) == []
    assert run(job).status == Status.DONE
    assert states(job) == ["imported", "imported"]
    assert Module.objects.get(name="good").versions.count() == 1
    assert ImportItem.objects.filter(job=job).count() == 2


def test_the_sweep_leaves_what_is_not_its_own(alice, data_folder):
    folder = runner.imports_folder()
    (folder / "something-else").mkdir()
    (folder / f"modules-{asked(alice, 'far/good').pk}-1-abc").mkdir()
    runner.remove_left_folders()
    assert [path.name for path in folder.iterdir()] == ["something-else"]


@pytest.mark.usefixtures("hub")
def test_a_long_import_gives_its_place_to_other_people_s_and_goes_on_later(alice, bob, base, monkeypatch):
    monkeypatch.setattr(runner, "SLICE_S", -1)
    job = asked(alice, *(f"far/{number}" for number in range(3)))
    assert run(job).status == Status.DONE  # as long as nobody else waits
    job = asked(alice, *(f"far/{number}" for number in range(3)))
    other = import_request(owner=bob, namespace=bob.namespace, sources=["far/x"], enqueue=False)
    assert run(job).status == Status.QUEUED
    assert states(job) == ["refused", "waiting", "waiting"]
    assert run(other).status == Status.QUEUED  # after one repository, because Alice's waits
    ModuleImport.objects.filter(pk=other.pk).delete()
    assert run(job).status == Status.DONE
