"""The real core in real children: stopped, and spared what is known already (killed: tests/chaos)."""

import errno
from pathlib import Path

import pytest

from composer.core.spec.examples import Example
from composer.core.spec.job_spec import FittedWork
from composer.models import Composition, ScreenedLoss
from composer.request.services import composition_request
from composer.run import events as run_events
from composer.run import runner
from composer.run.job_folder import job_description
from composer.run.results import ADAPTER_FILES, RESULT_FILES
from composer.run.runner import composition_run
from composer.services import composition_stop
from hub_site.jobs import work
from hub_site.jobs.children import Launcher
from hub_site.jobs.models import Status
from modules_registry.base_models import base_model_add
from modules_registry.blobs import store
from modules_registry.services import module_publish
from tests.composer.core import tiny
from tests.factories import named

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wakes")]

BASE = "tiny/t5"
MODULES = 3
SHOTS = [Example(*texts) for texts in tiny.EXAMPLES]


@pytest.fixture(scope="module")
def core():
    launcher = Launcher(preload="composer.run.child", call="composer.run.child:run", root=ROOT, threads=1)
    yield launcher
    launcher.stop()


@pytest.fixture(autouse=True)
def with_core(core, monkeypatch):
    monkeypatch.setattr(runner, "launcher", lambda: core)


@pytest.fixture
def ask(alice, bob, tmp_path):
    """A queued composition over modules that a real base model can compute with."""
    folder = tiny.make_base(tmp_path / "base")
    base, _ = base_model_add(folder=folder, name=BASE, licence="mit")
    for seed in range(MODULES):
        made = tiny.make_module(tmp_path / f"module-{seed}", folder, seed=seed)
        config = (
            (made / "adapter_config.json")
            .read_text()
            .replace("{", f'{{"base_model_name_or_path": "{BASE}",', 1)
        )
        files = {
            "config_file": named(config.encode(), "adapter_config.json"),
            "weights_file": named(
                (made / "adapter_model.safetensors").read_bytes(), "adapter_model.safetensors"
            ),
        }
        module_publish(
            author=bob,
            namespace=bob.namespace,
            name=f"m{seed}",
            sentence="One.",
            licence="mit",
            tags=[],
            **files,
        )

    def request(**changes):
        asked = {"owner": alice, "name": "Words", "base": base.name, "method": "exact", "search": "adam",
                 "budget": 240, "seed": 7, "examples": SHOTS, "baselines": "none"}  # fmt: skip
        return composition_request(**(asked | changes))

    return request


def run(composition: Composition) -> Composition:
    composition_run(composition.pk)
    composition.refresh_from_db()
    return composition


def adapter_of(composition: Composition) -> bytes:
    with store().open(composition.files.get(path="adapter_model.safetensors").sha256) as file:
        return file.read()


def test_what_one_composition_screened_no_other_scores_again(ask):
    first, second = run(ask()), run(ask(seed=8))
    assert first.report["candidates_scored"] - second.report["candidates_scored"] == MODULES
    assert ScreenedLoss.objects.count() == MODULES * len(SHOTS)
    assert adapter_of(first) == adapter_of(
        second
    )  # a fit by gradient draws nothing: the seed is no part of it


def test_what_one_account_screened_another_scores_itself_unless_the_examples_are_ready_made(
    ask, bob, monkeypatch
):
    first, of_bob = run(ask()), run(ask(owner=bob))
    assert first.report["candidates_scored"] == of_bob.report["candidates_scored"]
    assert set(ScreenedLoss.objects.values_list("owner", flat=True)) == {first.owner_id, bob.pk}
    monkeypatch.setattr("composer.task.demo_tasks.ready_made_pairs", lambda: frozenset(SHOTS))
    ScreenedLoss.objects.all().delete()
    run(ask(seed=8))
    assert set(ScreenedLoss.objects.values_list("owner", flat=True)) == {None}
    again = run(ask(owner=bob, seed=9))
    assert first.report["candidates_scored"] - again.report["candidates_scored"] == MODULES


def test_what_others_screened_does_not_change_which_modules_are_near(ask):
    run(ask())  # now the losses of all are known
    composition = run(ask(selection="near:2"))
    assert (
        composition.status == Status.FAILED
    )  # as without them: there is neither a text nor a screened module
    assert "needs the text of some module" in composition.error_message


def test_a_wish_to_stop_between_two_attempts_ends_the_next_one_with_what_the_first_found(
    ask, alice, monkeypatch
):
    store_events = run_events.store_events

    def store_and_end(composition, told):
        store_events(composition, told)
        if any(event["event"] == "state" for event in told):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(runner, "store_events", store_and_end)
        full.setattr(runner, "TICK_S", 0.005)
        composition = run(ask(search="adam", budget=10_000))
    assert composition.status == Status.QUEUED
    found = composition.events.filter(kind="step").count()
    composition_stop(owner=alice, composition_id=composition.pk)
    Composition.objects.update(due_at=composition.created_at)
    composition = run(composition)
    assert (composition.status, composition.report["stopped"]) == (Status.DONE, True)
    assert composition.events.filter(kind="step").count() == found + 1


def test_the_owner_s_wish_to_stop_ends_the_search_with_a_whole_result(ask, alice, monkeypatch):
    store_events = run_events.store_events

    def store_and_wish(composition, told):
        store_events(composition, told)
        if told and told[-1]["event"] == "step":
            composition_stop(owner=alice, composition_id=composition.pk)

    monkeypatch.setattr(runner, "store_events", store_and_wish)
    monkeypatch.setattr(runner, "TICK_S", 0.005)
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.0)
    composition = run(ask(budget=10_000))
    assert composition.status == Status.DONE
    assert composition.report["stopped"] is True
    assert 0 < len(composition.report["steps"]) < 10_000 // 3
    assert composition.files.count() == len(RESULT_FILES)


def test_a_search_that_takes_too_long_ends_with_its_best_and_the_report_says_why(ask, monkeypatch):
    monkeypatch.setattr(runner, "SEARCH_SHARE", 0.0)  # at the first look
    monkeypatch.setattr(runner, "TICK_S", 0.005)
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.0)
    composition = run(ask(budget=10_000))
    assert composition.status == Status.DONE
    assert (composition.report["stopped"], composition.report["stop_reason"]) == (True, "time")
    assert len(composition.report["steps"]) < 10_000 // 3


def test_when_the_time_is_up_the_adapter_and_what_was_compared_are_kept(ask, monkeypatch):
    """The clock stops the job between two baselines; nothing that was found is lost."""
    require_time_left = runner.require_time_left
    seen = []
    store_events = run_events.store_events

    def store_and_note(composition, told):
        store_events(composition, told)
        seen.extend(event.get("key") for event in told if event["event"] == "baseline")

    def until_the_base_alone_is_measured(taken_s, limit_s):
        require_time_left(taken_s + limit_s + 1 if "zero_shot" in seen else taken_s, limit_s)

    monkeypatch.setattr(runner, "store_events", store_and_note)
    monkeypatch.setattr(runner, "require_time_left", until_the_base_alone_is_measured)
    monkeypatch.setattr(runner, "TICK_S", 0.001)
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.0)
    composition = run(ask(baselines="thorough", max_new_tokens=200))
    assert composition.status == Status.DONE, composition.error_message
    rows = {row["key"]: row for row in composition.report["baselines"]}
    assert rows["zero_shot"]["few_shot_loss_nats"] is not None
    assert rows["lorahub"]["detail"] == "not measured: out of time"
    assert composition.report["verdict"]["decision"] == "unmeasured"
    assert "The time was up before" in composition.report["verdict"]["text"]
    assert {*RESULT_FILES} <= set(composition.files.values_list("path", flat=True))


def test_the_adapter_can_be_had_while_the_comparisons_run(ask, monkeypatch):
    seen = {}
    store_events = run_events.store_events

    def look(composition, told):
        store_events(composition, told)
        if any(event["event"] == "adapter" for event in told):
            seen["status"] = Composition.objects.get(pk=composition.pk).status
            seen["weights"] = adapter_of(composition)
            seen["files"] = set(composition.files.values_list("path", flat=True))

    monkeypatch.setattr(runner, "store_events", look)
    composition = run(ask(baselines="always"))
    assert seen["status"] == Status.RUNNING
    assert seen["files"] == set(ADAPTER_FILES)
    assert seen["weights"] == adapter_of(composition)
    rows = composition.events.filter(kind="baseline").values_list("detail__key", flat=True)
    assert list(rows) == [
        "composed",
        "zero_shot",
        "best_single",
        "uniform",
        "in_context",
        "lora_on_shots",
        "tuned",
    ]


def test_the_search_has_as_many_candidates_as_fit_and_a_later_attempt_as_many(ask, monkeypatch):
    """The number is in the row before the search, so a slower machine goes on to the same bytes."""
    monkeypatch.setattr(runner, "work_that_fits", lambda *_, **__: FittedWork(budget=60, training=70))
    whole = run(ask())
    assert (whole.budget_fitted, whole.training_fitted, whole.precision_found) == (60, 70, "fp32")
    assert (whole.report["budget"], whole.report["budget_fitted"]) == (240, 60)
    assert len(whole.report["steps"]) == 60 // 3
    assert any("60 of 240 candidates fit into the time" in text for text in whole.report["warnings"])

    store_events = run_events.store_events

    def store_and_end(composition, told):
        store_events(composition, told)
        if any(event["event"] == "state" for event in told):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(runner, "store_events", store_and_end)
        full.setattr(runner, "TICK_S", 0.005)
        interrupted = run(ask(seed=8))
    assert (interrupted.status, interrupted.budget_fitted) == (Status.QUEUED, 60)
    monkeypatch.setattr(runner, "work_that_fits", lambda *_, **__: FittedWork(budget=12, training=12))
    Composition.objects.update(due_at=interrupted.created_at)
    resumed = run(interrupted)
    assert (resumed.status, resumed.budget_fitted) == (Status.DONE, 60)
    assert adapter_of(resumed) == adapter_of(whole)


def test_a_later_attempt_computes_in_the_precision_of_the_first(ask):
    composition = ask()
    assert job_description(composition, [])["precision"] == "auto"
    Composition.objects.filter(pk=composition.pk).update(precision_found="bf16")
    assert run(composition).report["precision"] == "bf16"


def test_a_search_that_fits_into_its_time_is_not_shortened(ask):
    composition = run(ask())
    assert (composition.budget_fitted, composition.training_fitted) == (240, 12.5 * 240)
    assert composition.report["budget_fitted"] is None
    assert not any("fit into the time" in text for text in composition.report["warnings"])
