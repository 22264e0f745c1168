"""The table of all methods on English tasks: what is measured, and that a run goes on where it ended."""

import json

import pytest

from benchmarks import methods
from benchmarks.methods import METHODS, MIXED, TASKS, main, modules_of


@pytest.fixture
def words(tmp_path):
    (tmp_path / "base").mkdir()
    return ["--base", str(tmp_path / "base"), "--out", str(tmp_path)]


@pytest.fixture
def ordered(monkeypatch):
    """What would be measured; each row is right in a tenth of its place's number."""
    orders = []

    def measured(missing, workers, made_by):
        for order in missing:
            orders.append(order)
            yield {"library": order.library, "task": order.task, "method": order.method, "n": 50,
                   "exact_match_percent": {order.method: 10.0 * METHODS.index(order.method)}}  # fmt: skip

    monkeypatch.setattr(methods, "measured", measured)
    return orders


def test_every_method_meets_two_modules_and_all_and_one_lora_is_trained_on_both_skills(
    words, ordered, tmp_path
):
    main(words)
    assert len(ordered) == len(TASKS) * (2 * len(METHODS) - 1)
    assert all(order.library == "two" for order in ordered if order.method == MIXED)
    text = (tmp_path / "methods.md").read_text()
    two, every = text.split("## With all modules of the library")
    assert "| one LoRA on both skills' data | 80 | 80 | 80 | 80 | 80.0 |" in two
    assert "one LoRA on both" not in every
    assert every.index("DARE") < every.index("LoraHub") < every.index("**auto**")  # the best first


def test_what_was_measured_is_not_measured_again(words, ordered):
    main([*words, "--tasks", TASKS[0], "--methods", "auto", "cat"])
    first = len(ordered)
    main([*words, "--tasks", TASKS[0], "--methods", "auto", "cat", "linear"])
    assert {order.method for order in ordered[first:]} == {"linear"}


def test_two_modules_are_those_of_the_task_s_skills():
    assert modules_of("en-past-quotes", "two") == ["en-past", "en-quotes"]
    assert len(modules_of("en-past-quotes", "all")) == 21


def test_a_task_of_one_skill_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--tasks", "en-end"])
    assert "en-end is no task of two skills" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [[], [{"library": "two", "task": TASKS[0], "method": "auto", "n": 50,
                                        "exact_match_percent": {"auto": 1.0}}]])  # fmt: skip
def test_rows_are_kept_when_the_run_is_ended(words, ordered, tmp_path, monkeypatch, kept):
    (tmp_path / "methods.json").write_text(json.dumps({"rows": kept}))
    measured = methods.measured

    def ended(missing, workers, made_by):
        yield next(iter(measured(missing, workers, made_by)))
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "measured", ended)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    assert len(json.loads((tmp_path / "methods.json").read_text())["rows"]) == len(kept) + 1
