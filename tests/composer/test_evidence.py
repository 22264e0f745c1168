"""What a finished composition tells of its modules, on their pages, without naming the task."""

import pytest

from composer.core.spec.examples import Example
from composer.run import evidence
from composer.task.demo_tasks import DemoTask
from modules_registry.models import Evidence
from tests.composer.conftest import SHOTS

pytestmark = pytest.mark.usefixtures("wakes")
REPORT = {
    "few_shot_loss_nats": 1.0,
    "modules": [
        {"name": "bob/first", "without_loss_nats": 1.4},
        {"name": "bob/upper", "without_loss_nats": None},
        {"name": "gone/away", "without_loss_nats": 3.0},
    ],
    "baselines": [{"key": "zero_shot", "few_shot_loss_nats": 2.5}],
    "verdict": {"decision": "use"},
}


def record(composition, report=REPORT):
    evidence.record_composition(
        composition, list(composition.modules.select_related("version__module")), report
    )


def test_leaving_a_module_out_is_evidence_without_the_task(ask):
    composition = ask(name="My secret task")
    record(composition)
    (row,) = Evidence.objects.all()
    assert (row.module.name, row.loss_nats, row.reference_nats, row.n_examples) == ("first", 1.4, 1.0, 3)
    assert (row.kind, row.task) == ("part", "")


def test_what_a_composition_without_gain_needed_is_no_evidence(ask):
    for decision in ("none", "single", "train", "unsure", "unmeasured"):
        record(ask(), REPORT | {"verdict": {"decision": decision}})
    assert not Evidence.objects.exists()


def test_who_composes_their_own_modules_makes_no_evidence(ask, bob):
    record(ask(owner=bob))
    assert not Evidence.objects.exists()


def test_losses_alone_on_a_ready_made_task_are_told_with_its_name(ask, base, monkeypatch):
    task = DemoTask("capitals", base.name, "", "composable", (), tuple(SHOTS), ())
    monkeypatch.setattr(evidence, "demo_tasks", lambda: (task,))
    composition = ask()
    rows = [
        {"name": "bob/fruit", "loss_nats": 0.7, "n_shots": 1},
        {"name": "bob/fruit", "loss_nats": 0.5, "n_shots": 3},
        {"name": "bob/upper", "loss_nats": 0.2, "n_shots": 1},
        {"name": "bob/first", "loss_nats": None, "n_shots": 3},
    ]
    composition.events.create(number=1, generation=0, kind="alone", detail={"modules": rows})
    record(composition)
    (row,) = Evidence.objects.filter(kind="alone")
    assert (row.module.name, row.task, row.loss_nats, row.reference_nats) == ("fruit", "capitals", 0.5, 2.5)


def test_a_finished_composition_writes_its_evidence(done, monkeypatch):
    recorded = []
    monkeypatch.setattr("composer.run.results.record_composition", lambda *given: recorded.append(given))
    composition = done()
    ((given, modules, report),) = recorded
    assert (given.pk, report) == (composition.pk, composition.report)
    assert {module.version.module.name for module in modules} == {"first", "fruit", "upper"}


def test_the_best_module_alone_is_told_by_its_answers_to_the_task_s_own_examples(ask, base, monkeypatch):
    held_out = (Example("lime", "LIME"), Example("fig", "FIG"))
    task = DemoTask("capitals", base.name, "", "composable", (), tuple(SHOTS), held_out)
    monkeypatch.setattr(evidence, "demo_tasks", lambda: (task,))
    single = {"key": "best_single", "detail": "bob/fruit", "few_shot_loss_nats": 0.5}
    rows = [
        {"key": "zero_shot", "few_shot_loss_nats": 2.5, "held_out_exact_match_percent": 0.0},
        single | {"held_out_exact_match_percent": 50.0},
    ]
    report = REPORT | {"baselines": rows, "n_held_out": 2}
    record(ask(held_out=[Example("my own", "MY OWN")]), report)
    assert not Evidence.objects.filter(kind="score").exists()
    record(ask(held_out=list(held_out)), report)
    (row,) = Evidence.objects.filter(kind="score")
    assert (row.module.name, row.task, row.loss_nats, row.reference_nats) == ("fruit", "capitals", 0.5, 2.5)
    assert (row.score_percent, row.reference_percent, row.n_scored) == (50.0, 0.0, 2)
