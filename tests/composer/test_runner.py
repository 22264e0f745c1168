"""From a queued row to a finished one, with real child processes in place of the numeric core's."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F
from django.utils import timezone

from composer.core.spec.examples import Example
from composer.models import Attempt, Composition
from composer.run import events as run_events
from composer.run import job_folder as run_job_folder
from composer.run import runner
from composer.run.job_folder import remove_orphaned_folders
from composer.run.results import RESULT_FILES
from composer.run.runner import SENTENCES, composition_run, sweep
from composer.watch import selectors
from hub_site.jobs import leases, work
from hub_site.jobs.children import ChildBroke, Launcher
from hub_site.jobs.models import LEASE, Status
from hub_site.jobs.slots import Slots
from hub_site.jobs.worker import stopping
from modules_registry.blobs import store
from modules_registry.storage import StorageFullError
from tests.composer.conftest import SHOTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fake_jobs():
    launcher = Launcher(
        preload="tests.composer.fake_jobs", call="tests.composer.fake_jobs:run", root=ROOT, threads=1
    )
    yield launcher
    launcher.stop()


@pytest.fixture(autouse=True)
def with_fake_jobs(fake_jobs, monkeypatch, settings):
    settings.HUB_COMPOSE_MEMORY_MB = 512
    monkeypatch.setattr(runner, "launcher", lambda: fake_jobs)


@pytest.fixture
def ask_for(ask):
    """A queued composition whose child does the named fake job."""
    return lambda fake_job, **changes: ask(examples=[Example(fake_job, "done"), *SHOTS], **changes)


def run(composition: Composition) -> Composition:
    composition_run(composition.pk)
    composition.refresh_from_db()
    return composition


@pytest.fixture(autouse=True)
def no_folder_is_left(data_folder):
    yield
    assert list((data_folder / "jobs").iterdir()) == []


def test_a_composition_goes_from_queued_to_done_with_its_report_weights_and_files(ask):
    composition = run(ask())
    assert composition.status == Status.DONE
    assert composition.report["verdict"]["decision"] == "use"
    assert list(composition.modules.values_list("name", "weight")) == [
        ("bob/first", 0.5), ("bob/fruit", -0.5), ("bob/upper", -1.5),
    ]  # fmt: skip
    assert set(composition.files.values_list("path", flat=True)) == set(RESULT_FILES)
    assert (composition.steps_done, composition.steps_planned, composition.best_loss) == (2, 2, 1.0)
    assert composition.lease_until is None
    assert composition.finished_at


def test_its_files_are_in_the_store_under_their_sha256(ask):
    composition = run(ask())
    card = composition.files.get(path="README.md")
    with store().open(card.sha256) as file:
        assert file.read() == b"# A composed adapter\n"


def test_the_child_is_given_the_pinned_files_and_the_examples(ask, monkeypatch):
    given = {}

    def look_before_starting(composition, folder, on_piece):
        write_job(composition, folder, on_piece)
        given["job"] = json.loads((folder / "job.json").read_text())
        given["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        given["held_out"] = [json.loads(line) for line in (folder / "held_out.jsonl").open()]

    write_job = run_job_folder.write_job
    monkeypatch.setattr(runner, "write_job", look_before_starting)
    composition = run(ask(selection="random:2"))
    pinned = composition.modules.select_related("version")
    assert [(m["name"], m["revision"], m["sha256"]) for m in given["job"]["modules"]] == [
        (m.name, m.version.commit_id, m.version.weights_sha256) for m in pinned
    ]
    assert len(pinned) == 2
    assert {
        "base/model.safetensors",
        "modules/0/adapter_config.json",
        "modules/1/adapter_model.safetensors",
    } <= set(given["files"])
    assert given["held_out"] == [{"input": "fig", "output": "FIG"}, {"input": "lime", "output": "LIME"}]


def test_events_become_numbered_rows_in_order_and_chatter_does_not(ask):
    events = selectors.events_after(run(ask()), 0)
    assert [(event.number, event.kind) for event in events] == [(1, "stage"), (2, "step"), (3, "step")]
    assert events[1].detail["weights"] == [1.0, 1.0, 1.0]


def test_a_refusal_of_the_core_becomes_the_page_s_sentence(ask_for):
    composition = run(ask_for("refuse"))
    assert composition.status == Status.FAILED
    assert composition.error_code == "modules_do_not_match"
    assert composition.error_message == "q is 2 × 8 in one module and 4 × 8 in another."


def test_an_unforeseen_error_fails_with_a_neutral_sentence_and_reaches_the_log(ask_for):
    composition = ask_for("break_down")
    with pytest.raises(ChildBroke, match="ZeroDivisionError"):
        composition_run(composition.pk)
    composition.refresh_from_db()
    assert (composition.status, composition.error_code) == (Status.FAILED, "broken")
    assert "ZeroDivision" not in composition.error_message


def test_a_job_that_needs_more_memory_than_it_may_have_fails_with_a_sentence_of_its_own(ask_for):
    composition = run(ask_for("eat_memory"))
    assert (composition.status, composition.error_code) == (Status.FAILED, "out_of_memory")
    assert composition.error_message == SENTENCES["out_of_memory"]


def test_a_full_disk_does_not_fail_a_job_which_waits_until_there_is_space(ask_for):
    composition = run(ask_for("fill_the_disk"))
    assert (composition.status, composition.crashes) == (Status.QUEUED, 0)
    assert composition.put_off_reason == "The site's disk is full."
    composition.examples.update(input="apple")  # there is space again: the next attempt finishes
    Composition.objects.update(due_at=timezone.now())
    assert run(composition).status == Status.DONE
    assert composition.put_off_reason == ""


def test_attempts_that_each_advanced_are_no_poison(ask_for):
    composition = ask_for("advance_and_die")
    for steps_done in range(1, 6):
        run(composition)
        assert (composition.status, composition.steps_done) == (Status.QUEUED, steps_done)
    assert run(composition).status == Status.DONE


def test_a_full_store_leaves_nothing_half_made_and_puts_the_job_off(ask, monkeypatch):
    def full(*_, **__):
        raise StorageFullError

    composition = ask()
    monkeypatch.setattr("modules_registry.storage.disk._write", full)
    run(composition)
    assert composition.status == Status.QUEUED
    assert "disk is full" in composition.put_off_reason
    assert composition.files.count() == 0
    assert composition.report is None


@pytest.mark.parametrize("spoil", [lambda whole: b"0" * len(whole), lambda whole: whole[:1000]])
def test_a_base_file_that_was_altered_is_waited_for_like_a_missing_one(ask, base, data_folder, caplog, spoil):
    composition = ask()
    sha256 = base.files.get(path="model.safetensors").sha256
    (stored,) = (data_folder / "blobs").rglob(sha256)
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(spoil(whole))
    run(composition)
    assert (composition.status, composition.put_off_reason) == (Status.QUEUED, "A stored file was altered.")
    assert f"sha256 {sha256}" in caplog.text
    stored.write_bytes(whole)
    Composition.objects.update(due_at=timezone.now())
    assert run(composition).status == Status.DONE


def test_a_child_that_dies_is_tried_again_and_the_third_death_is_poison(ask_for):
    composition = ask_for("kill_itself")
    for crashes in (1, 2):
        run(composition)
        assert (composition.status, composition.crashes) == (Status.QUEUED, crashes)
        assert composition.due_at > timezone.now()
        Composition.objects.update(due_at=timezone.now())
    run(composition)
    assert (composition.status, composition.error_code) == (Status.FAILED, "poison")


def test_a_job_given_back_is_rung_for_by_the_next_sweep(ask_for):
    composition = run(ask_for("kill_itself"))
    assert sweep() == []
    Composition.objects.update(due_at=timezone.now())
    assert sweep() == [composition.pk]


def test_a_cancellation_ends_a_running_child(ask_for):
    composition = ask_for("loop_for_ever")
    Composition.objects.filter(pk=composition.pk).update(cancel_requested=True)
    assert run(composition).status == Status.CANCELLED


def test_the_deadline_ends_a_running_child_with_a_sentence(ask_for, settings):
    composition = ask_for("loop_for_ever")
    settings.HUB_COMPOSE_DEADLINE_S = -1
    run(composition)
    assert (composition.status, composition.error_code) == (Status.FAILED, "deadline")


def test_a_worker_asked_to_stop_gives_the_job_back(ask_for, monkeypatch):
    composition = ask_for("loop_for_ever")
    stopping.set()
    try:
        run(composition)
    finally:
        stopping.clear()
    assert (composition.status, composition.worker, composition.crashes) == (Status.QUEUED, "", 0)


def test_a_worker_that_lost_its_lease_kills_its_child_and_writes_nothing_more(ask_for, monkeypatch):
    composition = ask_for("loop_for_ever")

    def taken_over(row, told):
        Composition.objects.filter(pk=row.pk).update(generation=F("generation") + 1, worker="another")
        store_events(row, told)

    store_events = run_events.store_events
    monkeypatch.setattr(runner, "store_events", taken_over)
    run(composition)
    assert (composition.status, composition.worker) == (Status.RUNNING, "another")
    assert composition.events.count() == 0


def test_a_worker_that_lost_its_lease_at_the_very_end_stores_no_result(ask, monkeypatch):
    composition = ask()
    finish = leases.finish

    def too_late(row, status, **fields):
        Composition.objects.filter(pk=row.pk).update(generation=F("generation") + 1)
        finish(row, status, **fields)

    monkeypatch.setattr(leases, "finish", too_late)
    run(composition)
    assert composition.status == Status.RUNNING
    assert composition.files.count() == 0
    assert not any(module.weight for module in composition.modules.all())


def test_running_a_finished_composition_again_changes_nothing(ask):
    composition = run(ask())
    before = composition.finished_at
    assert run(composition).finished_at == before


def test_a_child_that_left_nothing_is_an_error_of_ours(ask_for):
    composition = ask_for("leave_nothing")
    with pytest.raises(OSError):  # noqa: PT011  which one is the system's business
        composition_run(composition.pk)
    composition.refresh_from_db()
    assert (composition.status, composition.error_code) == (Status.FAILED, "broken")


def test_the_upkeep_of_a_machine_clears_folders_of_dead_workers_and_leaves_those_at_work(ask, data_folder):
    working = leases.claim(Composition, ask(name="at work").pk, worker="w")
    dead, fresh = data_folder / "jobs" / f"{working.pk}-99", data_folder / "jobs" / f"{working.pk}-98"
    alive = data_folder / "jobs" / f"{working.pk}-{working.generation}"
    for folder in (dead, alive, fresh):
        folder.mkdir()
        (folder / "job.json").write_text("{}")
    for folder in (dead, alive):
        age(folder)
    remove_orphaned_folders()
    assert not dead.exists()
    assert alive.exists()
    assert fresh.exists()
    for folder in (alive, fresh):
        (folder / "job.json").unlink()
        folder.rmdir()


def age(folder: Path) -> None:
    long_ago = timezone.now().timestamp() - 2 * LEASE.total_seconds()
    os.utime(folder, (long_ago, long_ago))


def test_the_processor_time_of_an_attempt_is_counted_and_deleting_the_composition_keeps_it(ask):
    composition = run(ask())
    attempt = Attempt.objects.get(composition_id=composition.pk)
    assert 0 < attempt.cpu_s < 60
    assert attempt.is_quick


@pytest.mark.parametrize(
    ("n_long", "n_waiting", "end"),
    [
        (0, 1, (Status.FAILED, "deadline", False)),
        (1, 1, (Status.QUEUED, "", False)),
        (1, 0, (Status.FAILED, "deadline", True)),
    ],
    ids=["a place for long jobs is free", "a quick job waits for it", "nobody waits for it"],
)
def test_a_quick_job_that_takes_too_long_keeps_no_quick_one_waiting(
    ask_for, monkeypatch, settings, n_long, n_waiting, end
):
    """It goes on where it takes a place from nobody, and waits for a place for long jobs otherwise."""
    composition = ask_for("loop_for_ever")
    since = timezone.now() - timedelta(minutes=1)
    for seed in range(n_waiting):
        Composition.objects.filter(pk=ask_for("loop_for_ever", seed=seed).pk).update(due_at=since)
    assert composition.is_quick
    settings.HUB_COMPOSE_QUICK_S, settings.HUB_COMPOSE_DEADLINE_S = 0, 1
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(runner, "TICK_S", 0.05)
    slots = Slots(2, runner.claim_next, runner.composition_done)
    slots.long_running = n_long
    monkeypatch.setattr(runner, "slots", lambda: slots)
    composition = run(composition)
    assert (composition.status, composition.error_code, composition.is_quick) == end
    assert composition.crashes == 0
