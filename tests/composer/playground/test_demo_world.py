"""Trying with everything real: the demo's base and modules, the launcher, the sandbox, the store."""

import os
import signal
import threading
from pathlib import Path

import pytest

from composer.playground import runner, selectors
from composer.playground.loaded_bases import Question
from composer.playground.models import TryOut
from composer.playground.selectors import Requester
from composer.playground.services import tryout_ask
from hub_site.accounts.services import user_create
from hub_site.jobs.models import Status
from modules_registry.base_models import base_model_add
from modules_registry.services import module_publish
from tests.jobs.test_launcher import wait_until_gone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_launcher():
    runner.launcher.cache_clear()
    yield runner.launcher()
    runner.launcher().stop()
    runner.launcher.cache_clear()


@pytest.fixture
def room(real_launcher, settings):
    runner.loaded_bases.cache_clear()
    yield runner.loaded_bases()
    runner.loaded_bases().unload_all()
    runner.loaded_bases.cache_clear()


@pytest.fixture
def library(db, settings):
    """The demo's base and two of its modules."""
    owner = user_create(username="demo")
    bundle = Path(settings.HUB_DEMO_BUNDLE)
    base_model_add(folder=bundle / "base", name="demo/tiny-t5")
    modules = {}
    for name in ("upper", "french"):
        with (
            (bundle / "modules" / name / "adapter_config.json").open("rb") as config,
            (bundle / "modules" / name / "adapter_model.safetensors").open("rb") as weights,
        ):
            modules[name] = module_publish(
                author=owner, namespace=owner.namespace, name=name, config_file=config, weights_file=weights
            )
    return modules


@pytest.fixture
def answered(alice, library, room):
    def ask(name: str, text: str = ": drill", **changes) -> TryOut:
        target = selectors.target_of_version(library[name].current)
        tryout = tryout_ask(requester=Requester(alice), target=target, text=text, **changes)
        runner.tryout_run(tryout.pk)
        tryout.refresh_from_db()
        return tryout

    return ask


def texts(tryout: TryOut) -> tuple[str, str]:
    assert tryout.status == Status.DONE, tryout.error_message
    return tryout.result["adapted"]["text"], tryout.result["base"]["text"]


def test_two_modules_answer_each_in_its_way_beside_the_same_base(answered):
    assert texts(answered("upper")) == ("DRILL", "drill")
    french, base = texts(answered("french"))
    assert base == "drill"
    assert french not in ("drill", "DRILL")
    assert texts(answered("upper")) == ("DRILL", "drill")


def test_a_prompt_that_does_not_fit_is_told_and_the_base_stays(answered):
    too_long = answered("upper", "drill " * 600, template="{input}" * 5)
    assert (too_long.status, too_long.error_code) == (Status.FAILED, "prompt_too_long")
    assert not answered("upper").is_cold


def test_a_hostile_adapter_is_told_and_the_base_answers_the_next_as_before(
    answered, room, library, data_folder
):
    """Past the gate, straight into the child: what could come if the gate had a hole."""
    before = texts(answered("upper"))
    with room.hold_base(room.keys()[0], lambda: None) as loaded_base:
        told = loaded_base.ask(Question(": drill", "{input}", "mallory/x", 8, 5.0, put_hostile), lambda: None)
        loaded_base.wait_until_unchanged(lambda: None)
    assert (told["event"], told["code"]) == ("declined", "module_unreadable")
    after = answered("upper")
    assert texts(after) == before
    assert not after.is_cold


def put_hostile(folder: Path) -> None:
    """An adapter that brings the base's own embeddings along, as zeros."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    save_file(
        {"base_model.model.shared.weight": np.zeros((4, 4), np.float32)}, folder / "adapter_model.safetensors"
    )


def test_a_child_killed_in_the_middle_is_told_in_a_sentence_and_the_next_question_is_answered(
    answered, alice, library, room, settings, transactional_db
):
    answered("upper")
    (children,) = [
        Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for pid in [runner.launcher().process.pid]
    ]
    child = int(children[-1])
    os.kill(child, signal.SIGSTOP)  # so that it is in the middle for certain
    killer = threading.Timer(0.5, os.kill, (child, signal.SIGKILL))
    killer.start()
    tryout = answered("upper")
    killer.join()
    wait_until_gone(child)
    assert (tryout.status, tryout.error_code) == (Status.FAILED, "crashed")
    assert texts(answered("upper")) == ("DRILL", "drill")


def test_the_launcher_that_has_imported_the_base_model_has_one_thread(answered):
    answered("upper")
    tasks = Path(f"/proc/{runner.launcher().process.pid}/task")
    assert len(list(tasks.iterdir())) == 1


def test_a_crash_in_the_child_tells_the_log_no_word_of_the_question(answered, monkeypatch, caplog):
    secret = "the patient is called Zebulon"
    answered("upper", secret)
    answered("upper", secret * 100, template="{input}" * 20)
    assert "Zebulon" not in caplog.text
