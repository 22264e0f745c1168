"""A comparison that is cut short: what is known so far is a report, and it advises nothing too early."""

import json

import pytest

from composer.core.evaluation.verdict import verdict_cut_short
from composer.core.job import run
from composer.core.spec.examples import Example
from tests.composer.core.tiny import make_job


class Cut(Exception):
    pass


def report_when(job, key):
    """The report that lies in the unfinished result when the row of this baseline is told."""

    def cut(event):
        if event.get("key") == key:
            raise Cut

    with pytest.raises(Cut):
        run(job, cut)
    assert not (job / "out").exists()
    return json.loads((job / "out.unfinished" / "report.json").read_text())


@pytest.mark.parametrize("held_out", [True, False])
def test_a_baseline_is_in_a_report_before_it_is_told(tmp_path, held_out):
    job = make_job(tmp_path, budget=30, held_out=held_out)
    report = report_when(job, "uniform")
    rows = {row["key"]: row for row in report["baselines"]}
    assert rows["best_single"]["few_shot_loss_nats"] is not None
    assert rows["composed"]["few_shot_loss_nats"] is not None
    assert rows["uniform"]["few_shot_loss_nats"] is not None
    for key in ("in_context", "lora_on_shots", "tuned"):
        assert rows[key]["detail"] == "not measured: out of time"
        assert rows[key]["held_out_exact_match_percent"] is None
    assert report["verdict"]["decision"] == "unmeasured"
    assert report["verdict"]["advised"] is None
    assert "before the examples in the prompt" in report["verdict"]["text"] or not held_out


def test_only_what_could_be_advised_is_waited_for(tmp_path):
    report = report_when(make_job(tmp_path, budget=30, baselines="thorough"), "random_loras")
    assert report["verdict"]["decision"] != "unmeasured"
    whole = {row["key"] for row in report["baselines"] if row["detail"] != "not measured: out of time"}
    assert {"zero_shot", "best_single", "in_context", "lora_on_shots"} <= whole
    assert "random_loras" in whole
    assert "lorahub" not in whole


def test_the_text_names_what_is_missing_and_what_was_measured():
    examples = [Example("a", "b"), Example("c", "d")]
    answers = {"composed": ["b", "d"], "zero_shot": ["b", "x"]}
    verdict = verdict_cut_short(answers, examples, ["in_context", "lora_on_shots"])
    assert verdict.decision == "unmeasured"
    assert verdict.text == (
        "The time was up before the examples in the prompt and a LoRA trained on the examples could be "
        "measured, so nothing is advised. "
        "Right of 2 held-out examples: the composition 100 %, the base alone 50 %."
    )
    assert "Right of" not in verdict_cut_short({}, [], ["in_context"]).text
