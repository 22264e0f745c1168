"""From a waiting question to an answered one, with real child processes in place of the language model."""

import errno
from datetime import timedelta

import pytest
from django.utils import timezone

from composer.playground import loaded_bases as loaded_bases_module
from composer.playground import runner, selectors
from composer.playground.models import GIVEN_UP_AFTER, KEPT, LEFT_AFTER, TryOut
from composer.playground.services import tryout_watch
from hub_site.jobs.children import ChildBroke, ChildHindered
from hub_site.jobs.models import Status
from hub_site.jobs.worker import stopping
from modules_registry.models import Module
from modules_registry.storage import MissingBlobError, StorageFullError
from tests.factories import make_module


def pid_in(tryout: TryOut) -> str:
    return tryout.result["adapted"]["text"].split()[0]


def test_a_question_is_answered_with_the_adapters_files_and_by_the_base(ask_it, run):
    tryout = run(ask_it("apple", template="Say {input}"))
    assert tryout.status == Status.DONE
    assert tryout.result["prompt"] == "Say apple"
    assert tryout.result["adapted"]["text"].endswith("1 adapter_config.json adapter_model.safetensors")
    assert tryout.result["base"]["text"] == "plain"
    assert tryout.is_cold
    assert not run(ask_it("pear")).is_cold


def test_modules_of_one_base_are_answered_by_one_process(ask_it, run, bob):
    other = selectors.target_of_version(make_module(bob, "other", seed=5).current)
    assert pid_in(run(ask_it())) == pid_in(run(ask_it(target=other)))


def test_answering_again_changes_nothing(ask_it, run):
    tryout = run(ask_it())
    finished = tryout.finished_at
    assert run(tryout).finished_at == finished


@pytest.mark.parametrize(
    ("fake_job", "code", "words"),
    [
        ("decline", "prompt_too_long", "The prompt is too long."),
        ("crash", "crashed", "crashed over this question"),
        ("eat memory", "out_of_memory", "more memory than it may have"),
    ],
)
def test_each_failure_has_a_sentence_and_the_next_question_is_answered(ask_it, run, fake_job, code, words):
    tryout = run(ask_it(fake_job))
    assert (tryout.status, tryout.error_code) == (Status.FAILED, code)
    assert words in tryout.error_message
    assert run(ask_it("apple")).status == Status.DONE


def test_an_answer_that_takes_too_long_is_stopped_with_a_sentence(ask_it, run, settings, monkeypatch):
    monkeypatch.setattr(loaded_bases_module, "SPARE_S", 0.0)
    settings.HUB_TRY_ANSWER_S = 0.1
    tryout = run(ask_it("hang"))
    assert (tryout.status, tryout.error_code) == (Status.FAILED, "timed_out")
    settings.HUB_TRY_ANSWER_S = 5
    assert run(ask_it("apple")).status == Status.DONE


def test_an_unforeseen_error_fails_with_a_neutral_sentence_and_reaches_the_log(ask_it, run):
    tryout = ask_it("break down")
    with pytest.raises(ChildBroke, match="ZeroDivisionError"):
        run(tryout)
    tryout.refresh_from_db()
    assert (tryout.status, tryout.error_code) == (Status.FAILED, "broken")
    assert "ZeroDivision" not in tryout.error_message


def test_a_base_that_was_changed_leaves_and_the_answer_before_stands(ask_it, run):
    spoiled = run(ask_it("spoil the base"))
    assert spoiled.status == Status.DONE
    assert pid_in(run(ask_it("apple"))) != pid_in(spoiled)


def test_a_question_whose_page_was_left_is_not_answered(ask_it, run):
    tryout = ask_it()
    TryOut.objects.filter(pk=tryout.pk).update(seen_at=timezone.now() - LEFT_AFTER)
    assert run(tryout).status == Status.QUEUED
    assert selectors.in_line() == 0


def test_a_worker_asked_to_stop_puts_the_question_back(ask_it, run):
    tryout = ask_it("hang")
    stopping.set()
    try:
        run(tryout)
    finally:
        stopping.clear()
    assert tryout.status == Status.QUEUED


def test_a_question_whose_worker_vanished_says_so_and_its_late_answer_changes_nothing(ask_it):
    tryout = ask_it()
    assert runner.claim(tryout, is_cold=False)
    TryOut.objects.filter(pk=tryout.pk).update(alive_at=timezone.now() - timedelta(minutes=1))
    tryout_watch(tryout)
    assert (tryout.status, tryout.error_code) == (Status.FAILED, "interrupted")
    runner.finish(tryout, status=Status.DONE, result={})
    tryout.refresh_from_db()
    assert tryout.error_code == "interrupted"


def test_only_one_of_two_workers_takes_a_question(ask_it):
    tryout = ask_it()
    assert [runner.claim(tryout, is_cold=False), runner.claim(tryout, is_cold=False)] == [True, False]


def test_a_module_deleted_meanwhile_takes_its_question_along(ask_it, run, module):
    tryout = ask_it()
    module.current.files.all().delete()
    Module.objects.filter(pk=module.pk).update(current=None)
    module.versions.all().delete()
    runner.tryout_run(tryout.pk)
    assert not TryOut.objects.filter(pk=tryout.pk).exists()


def test_the_sweep_forgets_after_a_day_and_rings_again_for_what_waits(ask_it, alice):
    old, waiting, fresh = ask_it("old"), ask_it("waiting"), ask_it("fresh")
    now = timezone.now()
    TryOut.objects.filter(pk=old.pk).update(created_at=now - KEPT, status=Status.DONE)
    TryOut.objects.filter(pk=waiting.pk).update(created_at=now - runner.REQUEUE_AFTER)
    assert runner.sweep() == [waiting.pk]
    assert set(TryOut.objects.values_list("pk", flat=True)) == {waiting.pk, fresh.pk}


def test_folders_of_earlier_workers_are_cleared_away(data_folder, monkeypatch):
    dead = data_folder / "residents" / f"{runner.socket.gethostname()}-999999999"
    other_machine = data_folder / "residents" / "elsewhere-1"
    for folder in (dead, other_machine):
        folder.mkdir(parents=True)
    runner.remove_orphaned_folders()
    assert not dead.exists()
    assert other_machine.exists()
    other_machine.rmdir()


FAULTS_OF_THE_SITE = [
    (StorageFullError(), "disk_full"),
    (MissingBlobError("ab12"), "file_missing"),
    (ChildHindered("disk_full", "No space left on device"), "disk_full"),
    (OSError(errno.EIO, "Input/output error"), "machine_fault"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS_OF_THE_SITE)
def test_a_question_waits_for_a_fault_of_the_site_to_pass_but_not_for_ever(
    ask_it, run, monkeypatch, caplog, fault, code
):
    tryout = ask_it()

    def fetch(*args, **options):
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(runner, "fetch_files", fetch)
        assert run(tryout).status == Status.QUEUED
        assert f"try-out {tryout.pk} waits: {code}" in caplog.text
        assert ("sha256 ab12" in caplog.text) == (code == "file_missing")
        TryOut.objects.filter(pk=tryout.pk).update(created_at=timezone.now() - GIVEN_UP_AFTER)
        assert (run(tryout).status, tryout.error_code) == (Status.FAILED, code)
        assert f"try-out {tryout.pk} failed: {code}" in caplog.text
    assert run(ask_it("apple")).status == Status.DONE


def test_a_question_waits_for_a_base_file_that_was_altered(ask_it, run, data_folder):
    tryout = ask_it()
    sha256 = tryout.base.files.get(path="model.safetensors").sha256
    (stored,) = (data_folder / "blobs").rglob(sha256)
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(b"0" * len(whole))
    assert run(tryout).status == Status.QUEUED
    stored.write_bytes(whole)
    assert run(tryout).status == Status.DONE
