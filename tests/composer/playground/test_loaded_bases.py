"""Who stays loaded, who leaves, and what becomes of a base whose process ends. Real processes throughout."""

import os
import signal
import threading
from pathlib import Path

import pytest

from composer.playground import loaded_bases as module_under_test
from composer.playground.loaded_bases import LoadedBase, LoadTimedOut, Question, TimedOut
from hub_site.jobs.children import ChildBroke, ChildDied, ChildRefused
from hub_site.jobs.sandbox import Limits
from hub_site.jobs.work import Stopping
from tests.jobs.test_launcher import wait_until_gone


def nothing() -> None:
    pass


def put_nothing(folder: Path) -> None:
    folder.mkdir()


def put_slow(folder: Path) -> None:
    folder.mkdir()
    (folder / "slow").touch()


def put_adapter(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").touch()


def question(text: str, limit_s: float = 5.0) -> Question:
    return Question(text, "{input}", "bob/upper", 8, limit_s, put_adapter)


@pytest.fixture
def loaded_base(fake_jobs_launcher, tmp_path):
    loaded_base = LoadedBase(tmp_path / "loaded_base", fake_jobs_launcher, Limits(memory_mb=512))
    yield loaded_base
    loaded_base.unload()


def asked(loaded_base: LoadedBase, text: str, **options) -> str:
    loaded_base.start(put_nothing, nothing)
    told = loaded_base.ask(question(text, **options), nothing)
    loaded_base.wait_until_unchanged(nothing)
    return told["adapted"]["text"]


def test_one_process_answers_one_question_after_the_other(loaded_base):
    (first, one, *files), (second, two, *_) = (asked(loaded_base, "cat").split() for _ in range(2))
    assert first == second
    assert (one, two) == ("1", "2")
    assert files == ["adapter_config.json"]


def test_an_adapter_lies_in_the_folder_only_while_it_answers(loaded_base, tmp_path):
    asked(loaded_base, "cat")
    assert sorted(path.name for path in (tmp_path / "loaded_base").iterdir()) == ["base", "questions"]


def test_a_declined_question_leaves_the_base_loaded(loaded_base):
    pid = asked(loaded_base, "cat").split()[0]
    assert loaded_base.ask(question("decline"), nothing)["code"] == "prompt_too_long"
    loaded_base.wait_until_unchanged(nothing)
    assert asked(loaded_base, "cat").split()[0] == pid


def test_a_crash_is_told_and_the_next_question_finds_a_fresh_process(loaded_base):
    pid = asked(loaded_base, "cat").split()[0]
    with pytest.raises(ChildDied):
        asked(loaded_base, "crash")
    loaded_base.unload()
    assert asked(loaded_base, "cat").split()[:2] != [pid, "2"]


def test_a_child_that_ends_without_an_answer_is_no_answer(loaded_base):
    with pytest.raises(ChildBroke):
        asked(loaded_base, "leave")


def test_a_process_killed_while_it_stood_idle_costs_nobody_an_answer(loaded_base):
    pid = int(asked(loaded_base, "cat").split()[0])
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    fresh, number, *_ = asked(loaded_base, "cat").split()
    assert number == "1"
    assert int(fresh) != pid


def test_a_launcher_killed_while_its_base_stood_idle_costs_nobody_an_answer(loaded_base, fake_jobs_launcher):
    pid = int(asked(loaded_base, "cat").split()[0])
    fake_jobs_launcher.process.kill()
    wait_until_gone(pid)
    assert asked(loaded_base, "cat").split()[1] == "1"


def test_a_child_that_says_nothing_is_given_up(loaded_base, monkeypatch):
    monkeypatch.setattr(module_under_test, "SPARE_S", 0.0)
    with pytest.raises(TimedOut):
        asked(loaded_base, "hang", limit_s=0.1)


def test_a_base_that_does_not_get_loaded_blames_no_prompt(loaded_base, monkeypatch):
    monkeypatch.setattr(module_under_test, "LOAD_TIMEOUT_S", 0.0)
    with pytest.raises(LoadTimedOut, match="base model was not loaded"):
        loaded_base.start(put_slow, nothing)


def test_a_base_that_was_changed_is_told_of_before_anybody_else_may_ask(loaded_base):
    loaded_base.start(put_nothing, nothing)
    assert loaded_base.ask(question("spoil the base"), nothing)["event"] == "answered"
    with pytest.raises(ChildRefused) as caught:
        loaded_base.wait_until_unchanged(nothing)
    assert caught.value.code == "base_changed"


def test_after_so_many_answers_a_fresh_process_goes_on(loaded_base, monkeypatch):
    monkeypatch.setattr(module_under_test, "ANSWERS_MAX", 2)
    assert [asked(loaded_base, "cat").split()[1] for _ in range(4)] == ["1", "2", "1", "2"]


def test_whoever_waits_can_end_the_wait(loaded_base):
    def stop() -> None:
        raise Stopping

    loaded_base.start(put_nothing, nothing)
    with pytest.raises(Stopping):
        loaded_base.ask(question("hang"), stop)


def test_the_least_recently_asked_base_leaves_for_a_third(loaded_bases):
    pids = {}
    for key in ("one", "two", "one", "three"):
        with loaded_bases.hold_base(key, nothing) as loaded_base:
            pids[key] = asked(loaded_base, "cat").split()[0]
    assert loaded_bases.keys() == ["one", "three"]
    assert not Path(f"/proc/{pids['two']}").exists()
    with loaded_bases.hold_base("one", nothing) as loaded_base:
        assert asked(loaded_base, "cat").split()[:2] == [pids["one"], "3"]


def test_a_base_is_asked_by_one_at_a_time(loaded_bases):
    entered = threading.Event()

    def second() -> None:
        with loaded_bases.hold_base("one", nothing):
            entered.set()

    thread = threading.Thread(target=second)
    with loaded_bases.hold_base("one", nothing):
        thread.start()
        assert not loaded_bases.is_free("one")
        assert loaded_bases.is_free("two")
        assert not entered.wait(0.3)
    thread.join(10)
    assert entered.is_set()


def test_a_base_that_is_being_asked_never_leaves_for_another(loaded_bases):
    with loaded_bases.hold_base("one", nothing), loaded_bases.hold_base("two", nothing):
        assert not loaded_bases.is_free("three")
        with pytest.raises(Stopping), loaded_bases.hold_base("three", stop_waiting):
            pass
    assert loaded_bases.keys() == ["one", "two"]


def stop_waiting() -> None:
    raise Stopping
