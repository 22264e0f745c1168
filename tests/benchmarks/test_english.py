"""The benchmark of the English library: what it measures, and that it goes on where it ended."""

import argparse
import json

import pytest

from benchmarks import english
from benchmarks.english import TASKS_BY_NAME, USUAL_TASKS, measure, numbers_in, orders
from benchmarks.unseen import write_job
from demo.english import BUNDLE
from demo.english.catalog import MODULES, task_examples


@pytest.fixture
def asked(tmp_path):
    """As `--world english` alone is read, with a folder that stands for the base."""
    (tmp_path / "base").mkdir()
    usual = {"tasks": None, "draws": None, "held_out": None, "workers": 1}
    return argparse.Namespace(**usual, base=tmp_path / "base", out=tmp_path / "results")


def row_of(task: str, draw: int = 0) -> dict:
    return {
        "kind": TASKS_BY_NAME[task].kind,
        "task": task,
        "draw": draw,
        "variant": "auto",
        "n": 50,
        "exact_match_percent": {"composed": 60.0, "in_context": 70.0, "zero_shot": 0.0, "tuned": None},
        "baselines": {
            key: {"prompt_tokens": tokens}
            for key, tokens in (("composed", 31.6), ("in_context", 44.0), ("composed_in_context", 112.2))
        },
        "verdict": "none",
        "weights": {"en-past": 0.8, "en-quotes": 1.0},
        "seconds": {"search": 90.0, "baselines": 60.0},
    }


def test_what_is_usual_has_six_tasks_of_every_kind_once(asked):
    found = list(orders(asked, set()))
    assert [order.task for order in found] == list(USUAL_TASKS)
    assert {TASKS_BY_NAME[order.task].kind for order in found} == {"composable", "near", "negative"}
    assert {(order.draw, order.held_out) for order in found} == {(0, english.HELD_OUT)}


def test_what_was_measured_is_not_measured_again(asked):
    asked.draws = 2
    known = {(USUAL_TASKS[0], 0), (USUAL_TASKS[2], 1)}
    found = {(order.task, order.draw) for order in orders(asked, known)}
    assert len(found) == 10
    assert not found & known


def test_without_a_base_it_says_how_to_make_one(asked):
    asked.base = asked.base / "nothing"
    with pytest.raises(SystemExit, match="hub demo english"):
        list(orders(asked, set()))


def test_an_unknown_task_is_named_with_those_there_are(asked):
    asked.tasks = ["en-nothing"]
    with pytest.raises(SystemExit, match=r"no task en-nothing.*en-past-quotes"):
        list(orders(asked, set()))


def test_every_row_is_kept_as_soon_as_it_is_measured(asked, monkeypatch):
    def rows(missing, workers, made_by):
        for order in missing[:2]:
            yield row_of(order.task)
        raise KeyboardInterrupt

    monkeypatch.setattr(english, "measured", rows)
    with pytest.raises(KeyboardInterrupt):
        measure(asked)
    kept = json.loads((asked.out / "compose_quality_english.json").read_text())["rows"]
    assert [row["task"] for row in kept] == sorted(USUAL_TASKS[:2], key=list(TASKS_BY_NAME).index)


def test_a_run_with_everything_measured_writes_the_tables_again(asked):
    asked.out.mkdir()
    rows = [row_of(task) for task in USUAL_TASKS]
    (asked.out / "compose_quality_english.json").write_text(json.dumps({"schema": 1, "rows": rows}))
    measure(asked)
    text = (asked.out / "compose_quality_english.md").read_text()
    # of the base alone, in context, auto, and auto where no step of tuning helped
    assert "| en-past-quotes | 50 | 0.0 (0-0) | 70.0 (70-70) | 60.0 (60-60) | 60.0 (60-60) |" in text
    assert "| en-past-quotes | none | 32 | 44 | 112 | 2 |" in text
    assert "random modules" not in text  # a column that nobody measured
    assert "Tasks that are near a module's own" in text
    assert "| en-end | 90 | 60 | 150 |" in text


def test_a_job_holds_the_english_modules_and_their_base(tmp_path):
    shots = task_examples(TASKS_BY_NAME["en-past-quotes"].combination).shots[0]
    base = {"name": "demo/chat", "folder": "/base"}
    names = [module.name for module in MODULES]
    write_job(tmp_path, {}, modules=names, examples=shots, held_out=(), base=base, bundle=BUNDLE)
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["base"] == base
    assert [module["folder"] for module in job["modules"]] == [str(BUNDLE / "modules" / n) for n in names]


def test_the_figures_of_a_row_come_without_its_answers():
    assert numbers_in({"key": "composed", "rank": 8, "loss": 0.5, "answers": ["a"]}) == {
        "rank": 8,
        "loss": 0.5,
    }
