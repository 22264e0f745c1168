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
def resident(errands_launcher, tmp_path):
    resident = LoadedBase(tmp_path / "resident", errands_launcher, Limits(memory_mb=512))
    yield resident
    resident.unload()


def asked(resident: LoadedBase, text: str, **options) -> str:
    resident.start(put_nothing, nothing)
    told = resident.ask(question(text, **options), nothing)
    resident.wait_until_unchanged(nothing)
    return told["adapted"]["text"]


def test_one_process_answers_one_question_after_the_other(resident):
    (first, one, *files), (second, two, *_) = (asked(resident, "cat").split() for _ in range(2))
    assert first == second
    assert (one, two) == ("1", "2")
    assert files == ["adapter_config.json"]


def test_an_adapter_lies_in_the_folder_only_while_it_answers(resident, tmp_path):
    asked(resident, "cat")
    assert sorted(path.name for path in (tmp_path / "resident").iterdir()) == ["base", "questions"]


def test_a_declined_question_leaves_the_base_loaded(resident):
    pid = asked(resident, "cat").split()[0]
    assert resident.ask(question("decline"), nothing)["code"] == "prompt_too_long"
    resident.wait_until_unchanged(nothing)
    assert asked(resident, "cat").split()[0] == pid


def test_a_crash_is_told_and_the_next_question_finds_a_fresh_process(resident):
    pid = asked(resident, "cat").split()[0]
    with pytest.raises(ChildDied):
        asked(resident, "crash")
    resident.unload()
    assert asked(resident, "cat").split()[:2] != [pid, "2"]


def test_a_child_that_ends_without_an_answer_is_no_answer(resident):
    with pytest.raises(ChildBroke):
        asked(resident, "leave")


def test_a_process_killed_while_it_stood_idle_costs_nobody_an_answer(resident):
    pid = int(asked(resident, "cat").split()[0])
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    fresh, number, *_ = asked(resident, "cat").split()
    assert number == "1"
    assert int(fresh) != pid


def test_a_launcher_killed_while_its_base_stood_idle_costs_nobody_an_answer(resident, errands_launcher):
    pid = int(asked(resident, "cat").split()[0])
    errands_launcher.process.kill()
    wait_until_gone(pid)
    assert asked(resident, "cat").split()[1] == "1"


def test_a_child_that_says_nothing_is_given_up(resident, monkeypatch):
    monkeypatch.setattr(module_under_test, "SPARE_S", 0.0)
    with pytest.raises(TimedOut):
        asked(resident, "hang", limit_s=0.1)


def test_a_base_that_does_not_get_loaded_blames_no_prompt(resident, monkeypatch):
    monkeypatch.setattr(module_under_test, "LOAD_TIMEOUT_S", 0.0)
    with pytest.raises(LoadTimedOut, match="base model was not loaded"):
        resident.start(put_slow, nothing)


def test_a_base_that_was_changed_is_told_of_before_anybody_else_may_ask(resident):
    resident.start(put_nothing, nothing)
    assert resident.ask(question("spoil the base"), nothing)["event"] == "answered"
    with pytest.raises(ChildRefused) as caught:
        resident.wait_until_unchanged(nothing)
    assert caught.value.code == "base_changed"


def test_after_so_many_answers_a_fresh_process_goes_on(resident, monkeypatch):
    monkeypatch.setattr(module_under_test, "ANSWERS_MAX", 2)
    assert [asked(resident, "cat").split()[1] for _ in range(4)] == ["1", "2", "1", "2"]


def test_whoever_waits_can_end_the_wait(resident):
    def stop() -> None:
        raise Stopping

    resident.start(put_nothing, nothing)
    with pytest.raises(Stopping):
        resident.ask(question("hang"), stop)


def test_the_least_recently_asked_base_leaves_for_a_third(residents):
    pids = {}
    for key in ("one", "two", "one", "three"):
        with residents.taken(key, nothing) as resident:
            pids[key] = asked(resident, "cat").split()[0]
    assert residents.keys() == ["one", "three"]
    assert not Path(f"/proc/{pids['two']}").exists()
    with residents.taken("one", nothing) as resident:
        assert asked(resident, "cat").split()[:2] == [pids["one"], "3"]


def test_a_base_is_asked_by_one_at_a_time(residents):
    entered = threading.Event()

    def second() -> None:
        with residents.taken("one", nothing):
            entered.set()

    thread = threading.Thread(target=second)
    with residents.taken("one", nothing):
        thread.start()
        assert not residents.is_free("one")
        assert residents.is_free("two")
        assert not entered.wait(0.3)
    thread.join(10)
    assert entered.is_set()


def test_a_base_that_is_being_asked_never_leaves_for_another(residents):
    with residents.taken("one", nothing), residents.taken("two", nothing):
        assert not residents.is_free("three")
        with pytest.raises(Stopping), residents.taken("three", stop_waiting):
            pass
    assert residents.keys() == ["one", "two"]


def stop_waiting() -> None:
    raise Stopping
