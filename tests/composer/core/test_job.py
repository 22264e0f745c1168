"""One whole composition, from a job folder to an adapter anybody can load."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from composer.core.errors import ComposeError
from composer.core.job import run
from modules_registry.core.gate import check_adapter
from tests.composer.core.tiny import make_job, write_examples

ROOT = Path(__file__).parents[3]


def finished(job: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    run(job, events.append)
    return json.loads((job / "out" / "report.json").read_text()), events


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_the_result_answers_outside_as_the_report_says(tmp_path, kind, method):
    job = make_job(tmp_path, kind=kind, method=method, budget=30)
    report, _ = finished(job)
    automatic = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    model = PeftModel.from_pretrained(automatic.from_pretrained(job / "base"), job / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(job / "base")
    for shown in report["predictions"]:
        tokens = tokenizer(shown["input"], return_tensors="pt")
        answer = model.generate(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            do_sample=False,
            max_new_tokens=len(shown["expected"].encode()) + 8,
            pad_token_id=0,
        )
        if kind != "t5":
            answer = answer[:, tokens["input_ids"].shape[1] :]
        assert tokenizer.decode(answer[0], skip_special_tokens=True).strip() == shown["composed"]


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_the_result_may_be_published_like_any_other_module(tmp_path, kind, method):
    job = make_job(tmp_path, kind=kind, method=method, budget=30, held_out=False, baselines="none")
    run(job, lambda event: None)
    facts = check_adapter(job / "out/adapter_config.json", job / "out/adapter_model.safetensors")
    assert facts.base == f"tiny/{kind}"
    assert facts.task_type == ("SEQ_2_SEQ_LM" if kind == "t5" else "CAUSAL_LM")


def test_the_report_holds_what_the_page_reads(tmp_path):
    report, events = finished(make_job(tmp_path, budget=60))
    assert report["schema"] == 2
    assert [row["key"] for row in report["baselines"]] == [
        "zero_shot",
        "best_single",
        "uniform",
        "in_context",
        "lora_on_shots",
        "composed",
    ]
    assert all(row["held_out_exact_match_percent"] is not None for row in report["baselines"])
    assert report["verdict"]["decision"] in {"use", "single", "train", "none"}
    assert len(report["modules"]) == 3
    assert report["gradient_steps"] > 0
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["load", "screen", "search", "export", "evaluate"]
    steps = [event for event in events if event["event"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert all(step["step"] <= step["budget"] for step in steps)
    assert events[-1] == {"event": "done"}
    json.dumps(events, allow_nan=False)


def test_without_held_out_examples_the_verdict_says_what_it_rests_on(tmp_path):
    report, _ = finished(make_job(tmp_path, budget=30, held_out=False))
    assert "no held-out examples" in report["verdict"]["text"]
    assert report["predictions"] == []
    assert all(row["held_out_exact_match_percent"] is None for row in report["baselines"])


@pytest.mark.parametrize("asked", [{"method": "exact"}, {"method": "lorahub"}, {"search": "greedy"}])
def test_the_same_job_gives_the_same_bytes(tmp_path, asked):
    first = make_job(tmp_path / "first", budget=30, **asked)
    second = make_job(tmp_path / "second", budget=30, **asked)
    run(first, lambda event: None)
    torch.manual_seed(99)  # whatever else the process drew before
    run(second, lambda event: None)
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        assert (first / "out" / name).read_bytes() == (second / "out" / name).read_bytes()


@pytest.mark.parametrize("search", ["cma", "nevergrad:OnePlusOne"])
@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_other_searches_can_be_asked_for_by_name(tmp_path, method, search):
    report, _ = finished(make_job(tmp_path, method=method, search=search, budget=20))
    assert len(report["steps"]) == 20
    assert report["optimizer"] in {"CMA -> CMAbounded", "OnePlusOne"}


@pytest.mark.parametrize("method", ["linear", "magnitude", "ties", "dare_linear", "dare_ties"])
def test_every_merging_method_gives_an_adapter_that_peft_computes_alike(tmp_path, method):
    report, _ = finished(make_job(tmp_path, method=method, budget=10, held_out=False))
    assert report["optimizer"].startswith("NGOpt")


def test_a_result_can_be_cut_to_a_rank(tmp_path):
    whole, _ = finished(make_job(tmp_path / "whole", budget=150, search="adam"))
    cut, _ = finished(make_job(tmp_path / "cut", budget=150, search="adam", rank=2))
    assert whole["rank"] == 6
    assert whole["energy_kept"] == 1.0
    assert cut["rank"] == 2
    assert 0.3 < cut["energy_kept"] < 1.0
    assert cut["few_shot_loss_nats"] != whole["few_shot_loss_nats"]


def test_lorahub_names_the_optimizer_that_really_ran(tmp_path):
    report, _ = finished(make_job(tmp_path, method="lorahub"))
    assert report["optimizer"].endswith("Cobyla")
    assert len(report["steps"]) == 40


def test_a_caller_can_stop_a_search_and_nothing_half_made_is_left(tmp_path):
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            raise InterruptedError

    for method in ("exact", "lorahub"):
        job = make_job(tmp_path / method, method=method)
        with pytest.raises(InterruptedError):
            run(job, stop)
        assert not (job / "out").exists()


def test_a_job_goes_on_from_the_steps_it_told_before(tmp_path):
    whole, broken = (
        make_job(tmp_path / "whole", method="lorahub"),
        make_job(tmp_path / "broken", method="lorahub"),
    )
    _, events = finished(whole)
    told = [json.dumps(event) for event in events if event["event"] == "step"][:17]
    (broken / "steps.jsonl").write_text("\n".join(told) + "\n")
    report, _ = finished(broken)
    assert report["candidates_scored"] < 40
    name = "adapter_model.safetensors"
    assert (whole / "out" / name).read_bytes() == (broken / "out" / name).read_bytes()


def test_only_the_chosen_modules_are_composed(tmp_path):
    report, _ = finished(make_job(tmp_path, n_modules=4, select="random:3+screen:2", budget=30))
    assert len(report["modules"]) == 2


def change(field: str, value: Any) -> Callable[[Path], None]:
    def apply(job: Path) -> None:
        asked = json.loads((job / "job.json").read_text())
        (job / "job.json").write_text(json.dumps({**asked, field: value}))

    return apply


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (change("method", "magic"), "invalid_job"),
        (change("search", "adams"), "invalid_job"),
        (change("search", "nevergrad:Nothing"), "invalid_job"),
        (change("rank", 0), "invalid_job"),
        (change("budget", 0), "invalid_job"),
        (change("budget", "40"), "invalid_job"),
        (change("template", "no place for it"), "invalid_job"),
        (change("select", "best:3"), "invalid_job"),
        (change("modules", []), "no_modules"),
        (lambda job: (job / "examples.jsonl").write_text(""), "no_examples"),
        (lambda job: (job / "examples.jsonl").write_text("not json"), "invalid_examples"),
        (lambda job: write_examples(job / "examples.jsonl", [("a", " ")]), "missing_output"),
        (lambda job: write_examples(job / "examples.jsonl", [("cat " * 3000, "b")]), "example_too_long"),
        (lambda job: (job / "base" / "config.json").unlink(), "base_model_unusable"),
        (lambda job: (job / "modules/0/adapter_config.json").unlink(), "module_unreadable"),
    ],
)
def test_bad_input_is_refused_with_a_code_and_a_sentence(tmp_path, spoil, code):
    job = make_job(tmp_path)
    spoil(job)
    with pytest.raises(ComposeError) as refusal:
        run(job, lambda event: None)
    assert refusal.value.code == code
    assert str(refusal.value).endswith(".")
    assert not (job / "out").exists()


FORK = """
import json, os, sys
from pathlib import Path
from composer.core.job import run
child = os.fork()
if child == 0:
    run(Path(sys.argv[1]), lambda event: None)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_after_the_import_can_do_the_job(tmp_path):
    job = make_job(tmp_path, budget=30)
    done = subprocess.run([sys.executable, "-c", FORK, str(job)], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0
    assert (job / "out" / "adapter_model.safetensors").exists()
