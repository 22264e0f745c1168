"""The real thing, small: a task of the demo world that no module was trained for."""

import json
import shutil
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from composer.core.job import run
from demo import BUNDLE

pytestmark = pytest.mark.slow


def demo_job(folder: Path, task: str, **asked: str) -> Path:
    bundle = json.loads((BUNDLE / "bundle.json").read_text())
    modules = [{"name": m["name"], "folder": str(BUNDLE / "modules" / m["name"])} for m in bundle["modules"]]
    base = {"name": bundle["base"], "folder": str(BUNDLE / "base")}
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"base": base, "modules": modules, **asked}))
    shutil.copyfile(BUNDLE / "tasks" / task / "shots-0.jsonl", folder / "examples.jsonl")
    shutil.copyfile(BUNDLE / "tasks" / task / "heldout.jsonl", folder / "held_out.jsonl")
    return folder


def test_two_modules_answer_a_task_neither_was_trained_for(tmp_path):
    job = demo_job(tmp_path / "job", "body-answer")
    run(job, lambda event: None)
    report = json.loads((job / "out" / "report.json").read_text())
    percent = {row["key"]: row["held_out_exact_match_percent"] for row in report["baselines"]}
    assert percent["composed"] >= 80
    assert percent["best_single"] <= 50
    assert report["verdict"]["decision"] == "use"
    heaviest = sorted(report["modules"], key=lambda module: -module["weight"])[:3]
    assert {"body", "answer"} <= {module["name"] for module in heaviest}
    assert exact_match_outside(job) == pytest.approx(percent["composed"], abs=0.01)


def test_a_skill_that_no_module_has_is_not_sold_as_a_gain(tmp_path):
    job = demo_job(tmp_path / "job", "german")
    run(job, lambda event: None)
    verdict = json.loads((job / "out" / "report.json").read_text())["verdict"]
    assert verdict["decision"] in {"none", "train"}


def exact_match_outside(job: Path) -> float:
    """As anybody would score it who has only the download."""
    model = PeftModel.from_pretrained(
        AutoModelForSeq2SeqLM.from_pretrained(BUNDLE / "base"), job / "out"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(BUNDLE / "base")
    rows = [json.loads(line) for line in (job / "held_out.jsonl").read_text().splitlines()]
    right = 0
    for row in rows:
        tokens = tokenizer(row["input"], return_tensors="pt")
        answer = model.generate(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            do_sample=False,
            max_new_tokens=256,
        )
        right += tokenizer.decode(answer[0], skip_special_tokens=True).strip() == row["output"].strip()
    return 100 * right / len(rows)


@pytest.mark.parametrize("task", ["body-answer", "animal-spanish", "french-quotes"])
def test_the_two_modules_that_a_task_needs_are_nearly_all_that_is_left(tmp_path, task):
    """Of 27 modules; what else is left, such as place-french, mostly shares a skill with one of the two."""
    job = demo_job(tmp_path / "job", task, baselines="none")
    run(job, lambda event: None)
    report = json.loads((job / "out" / "report.json").read_text())
    sizes = {module["name"]: abs(module["weight"]) for module in report["modules"]}
    needed = set(task.split("-"))
    assert set(sorted(sizes, key=sizes.__getitem__)[-2:]) == needed
    assert sum(sizes[name] for name in needed) >= 0.6 * sum(sizes.values())
    assert len(sizes) <= 7
    assert report["rank"] <= 32
    assert len(report["modules"]) + len(report["modules_pruned"]) == 27
