"""The measurement behind the README's figures: what it draws, and how it counts."""

import json

import pytest

from benchmarks import compose_quality, quality_report
from benchmarks.unseen import TASKS_BY_NAME, draw_examples, modules_without
from demo.catalog import task_examples


@pytest.mark.parametrize("name", ["fruit-upper", "french-quotes"])
def test_shots_verdict_and_truth_share_no_input(name):
    draw = draw_examples(TASKS_BY_NAME[name].combination, 1, verdict=100, truth=200)
    inputs = [example.input for part in (draw.shots, draw.verdict, draw.truth) for example in part]
    assert len(set(inputs)) == len(inputs)
    assert len(draw.shots) == 5
    one_word = TASKS_BY_NAME[name].combination.takes_one_word
    assert (len(draw.verdict), len(draw.truth)) == ((33, 34) if one_word else (100, 200))


def test_the_draws_are_not_those_that_come_with_the_demo_world():
    combination = TASKS_BY_NAME["fruit-upper"].combination
    ours = draw_examples(combination, 0, verdict=200, truth=0)
    assert tuple(ours.shots) not in task_examples(combination).shots


def test_a_withheld_skill_is_in_no_module_that_is_left():
    left = modules_without("french")
    assert "french" not in left
    assert "place-french" not in left
    assert len(left) == len(modules_without(None)) - 2


def test_precisions_are_compared_run_by_run():
    rows = [
        {"kind": "composable", "task": task, "draw": 0, "variant": precision, "verdict": verdict,
         "weights": weights, "exact_match_percent": {"composed": percent}}
        for task, precision, verdict, weights, percent in [
            ("a", "fp32", "use", {"x": 0.9, "y": 0.04}, 60.0),
            ("a", "bf16", "use", {"x": 0.8}, 50.0),
            ("b", "fp32", "use", {"x": 0.9}, 80.0),
            ("b", "bf16", "none", {"x": 0.9, "y": -0.05}, 90.0),
        ]
    ]  # fmt: skip
    section = quality_report.precision_section({"machine": "this one", "rows": rows})
    assert "| composable | 2 | 2 | 1 | 1 | 70.0 | 70.0 |" in section


def test_verdicts_are_counted_by_the_gain_of_what_they_advise_on_other_examples():
    rows = [
        {
            "decision": {"held_out": decision},
            "exact_match_percent": {
                **dict.fromkeys(quality_report.BASELINES, 0.0),
                "best_single": 50.0,
                "composed": composed,
                **({} if tuned is None else {"tuned": tuned}),
            },
        }
        for decision, composed, tuned in [
            ("use", 50.0, 90.0),  # in vain, though it gains tuned
            ("use", 50.5, None),
            ("tune", 40.0, 51.0),
            ("tune", 90.0, 50.0),  # in vain, though it gains as it is
            ("train", 60.0, 70.0),  # missed
            ("none", 59.5, 60.0),  # missed, tuned
            ("none", 59.5, None),
        ]
    ]
    counted = quality_report.Verdicts.counted(rows, "held_out")
    assert counted.given == {"use": 2, "tune": 2, "prompt": 0}
    assert counted.in_vain == {"use": 1, "tune": 1, "prompt": 0}
    assert (counted.missed, counted.missed_in_any_form) == (1, 2)


@pytest.mark.slow
def test_one_task_runs_through_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(compose_quality, "HELD_OUT", 20)
    monkeypatch.setattr(compose_quality, "MOMENTS_S", (0.2,))
    quick = {"method": "exact", "search": "greedy"}
    variants = {"auto": {**quick, "baselines": "always"}, "adam": {**quick, "baselines": "none"}}
    monkeypatch.setattr(compose_quality, "VARIANTS", variants)
    content = {"schema": 1}
    others = {"quality": ["adam"], "precision": ["fp32", "bf16"], "anytime": ["reference"]}
    for part, (_, made_by) in compose_quality.PARTS.items():
        orders = [compose_quality.Order(part, "body-answer", 0, stop_s=9.0 if part == "anytime" else None)]
        orders += [compose_quality.Order(part, "body-answer", 0, name) for name in others.get(part, [])]
        content[part] = {"machine": "this one", "rows": [made_by(order) for order in orders]}
    quality_report.write(tmp_path, json.loads(json.dumps(content)))
    text = (tmp_path / "compose_quality.md").read_text()
    assert "| body-answer | 20 |" in text
    assert "How far the verdict can be trusted" in text
    assert (tmp_path / "compose_quality_anytime.svg").read_text().startswith("<svg")
    assert "| composable | 1 | 1 | 1 | 1 |" in text  # greedy choice and verdict are the same in bf16
