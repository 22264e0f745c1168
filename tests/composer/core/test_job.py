"""One whole composition, from a job folder to an adapter anybody can load."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from composer.core.evaluation.scoring import evaluate_adapter
from composer.core.job import CompositionRun, run
from composer.core.model.scorer import token_mean
from composer.core.modules.sources import Source
from composer.core.search.dispatch import WeightSearch
from composer.core.spec import choices
from composer.core.spec.errors import ComposeError, StopSearch
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import FittedWork, read_job_spec
from modules_registry.core.gate import check_adapter
from tests.composer.core.tiny import EXAMPLES, as_dora, make_base, make_job, make_module, write_examples

pytestmark = pytest.mark.slow  # whole jobs

ROOT = Path(__file__).parents[3]
QUICK = {"baselines": "none", "held_out": False}
KINDS = ["t5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gpt2", "llama"))]


def finished(job: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    run(job, events.append)
    return json.loads((job / "out" / "report.json").read_text()), events


@pytest.mark.parametrize("kind", KINDS)
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


def test_the_report_has_the_sha256_of_every_file_that_was_read(tmp_path):
    job = make_job(tmp_path, n_modules=2, budget=10, baselines="none")
    known = {f"modules/alice/m{i}/adapter_model.safetensors": f"{i}" * 64 for i in range(2)}  # by the caller
    read = {
        f"modules/alice/m{i}/adapter_config.json": job / f"modules/{i}/adapter_config.json" for i in range(2)
    }
    read |= {f"base/{path.name}": path for path in (job / "base").iterdir()}
    read |= {name: job / name for name in ("examples.jsonl", "held_out.jsonl")}
    assert {"base/config.json", "base/tokenizer.json", "base/model.safetensors"} <= read.keys()
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in read.items()}
    report, _ = finished(job)
    assert report["inputs_sha256"] == sums | known


def test_two_modules_of_one_name_are_refused(tmp_path):
    job = make_job(tmp_path, n_modules=2)
    asked = json.loads((job / "job.json").read_text())
    asked["modules"][1]["name"] = asked["modules"][0]["name"]
    (job / "job.json").write_text(json.dumps(asked))
    with pytest.raises(ComposeError, match="2 modules are called alice/m0"):
        run(job, lambda event: None)


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_the_result_may_be_published_like_any_other_module(tmp_path, kind, method):
    job = make_job(tmp_path, kind=kind, method=method, budget=30, held_out=False, baselines="none")
    run(job, lambda event: None)
    facts = check_adapter(job / "out/adapter_config.json", job / "out/adapter_model.safetensors")
    assert facts.base == f"tiny/{kind}"
    assert facts.task_type == ("SEQ_2_SEQ_LM" if kind == "t5" else "CAUSAL_LM")


def test_the_report_holds_what_the_page_reads(tmp_path):
    report, events = finished(make_job(tmp_path, budget=400))
    assert report["schema"] == 2
    assert [row["key"] for row in report["baselines"]] == [
        "zero_shot",
        "best_single",
        "uniform",
        "in_context",
        "composed_in_context",
        "lora_on_shots",
        "tuned",
        "composed",
    ]
    unmeasured = [row["key"] for row in report["baselines"] if row["held_out_exact_match_percent"] is None]
    assert unmeasured == []
    assert report["verdict"]["decision"] in {"use", "prompt", "tune", "single", "train", "none"}
    assert report["template"] == "{input}"
    assert report["prompt_shown"] == {
        "prompt": "cat </s>", "answer": "chat </s>", "prompt_tokens": 2, "answer_tokens": 2,
    }  # fmt: skip
    assert report["examples_in_prompt"]["before"].startswith("cat\nchat\n\n")
    assert len(report["modules"] + report["modules_pruned"]) == 3
    assert report["gradient_steps"] > 0
    assert report["base"] == {"name": "tiny/t5", "revision": "r"}
    stages = [event for event in events if event["event"] == "stage"]
    assert [stage["stage"] for stage in stages] == ["load", "screen", "search", "prune", "export", "evaluate"]
    assert [stage["text"] for stage in stages if stage["stage"] != "prune"] == [
        "Loading tiny/t5 and 3 modules",
        "Trying 3 modules one by one",
        "Searching the weights of 3 modules",
        "Writing the adapter and loading it again",
        f"Comparing on {report['n_held_out']} held-out examples",
    ]
    assert list(report["seconds"]) == [stage["stage"] for stage in stages]
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


ONE_OF_EACH = [
    ("auto", "auto"),
    ("exact", "auto"),
    ("exact", "greedy"),
    ("exact", "nevergrad:OnePlusOne"),
    ("svd", "adam-sparse"),
    ("cat", "adam"),
    ("cat-layers", "lbfgs"),
    ("ties_svd", "adam-positive"),
    ("lorahub", "ngopt"),
    ("linear", "greedy"),
    ("magnitude", "cma"),
    ("ties", "ngopt"),
    ("dare_linear", "cma"),
    ("dare_ties", "ngopt"),
]


@pytest.mark.parametrize(("method", "search"), ONE_OF_EACH)
def test_the_same_job_gives_the_same_bytes(tmp_path, method, search):
    asked = {"method": method, "search": search, "budget": 15, **QUICK}
    first, second = make_job(tmp_path / "first", **asked), make_job(tmp_path / "second", **asked)
    run(first, lambda event: None)
    torch.manual_seed(99)  # whatever else the process drew before
    run(second, lambda event: None)
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        assert (first / "out" / name).read_bytes() == (second / "out" / name).read_bytes()


@pytest.mark.parametrize("search", ["cma", "nevergrad:OnePlusOne"])
@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_other_searches_can_be_asked_for_by_name(tmp_path, method, search):
    report, _ = finished(make_job(tmp_path, method=method, search=search, budget=20, **QUICK))
    assert len(report["steps"]) == 20
    assert report["optimizer"] in {"CMA -> CMAbounded", "OnePlusOne"}


@pytest.mark.slow  # five whole jobs with all their baselines
@pytest.mark.parametrize("method", ["linear", "magnitude", "ties", "dare_linear", "dare_ties"])
def test_every_merging_method_gives_an_adapter_that_peft_computes_alike(tmp_path, method):
    report, _ = finished(make_job(tmp_path, method=method, budget=10, held_out=False))
    assert report["optimizer"].startswith("NGOpt")


def test_a_result_can_be_cut_to_a_rank(tmp_path):
    whole, _ = finished(make_job(tmp_path / "whole", budget=150, search="adam", rank="full", **QUICK))
    cut, _ = finished(make_job(tmp_path / "cut", budget=150, search="adam", rank=2, **QUICK))
    assert whole["rank"] == 6
    assert whole["energy_kept"] == 1.0
    assert cut["rank"] == 2
    assert 0.3 < cut["energy_kept"] < 1.0
    assert cut["few_shot_loss_nats"] != whole["few_shot_loss_nats"]


def test_lorahub_names_the_optimizer_that_really_ran(tmp_path):
    report, _ = finished(make_job(tmp_path, method="lorahub", **QUICK))
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


SEARCHED = [
    {"method": "lorahub"},
    {"method": "exact", "search": "adam", "budget": 75},
    {"method": "exact", "search": "adam-sparse", "budget": 75},
    {"method": "cat-layers", "search": "adam-positive", "budget": 75},
    {"method": "cat", "search": "lbfgs", "budget": 75},
    {"method": "svd", "search": "cma", "budget": 30},
    {"method": "auto", "budget": 1600},
]


@pytest.mark.parametrize("asked", SEARCHED, ids=lambda asked: "-".join(map(str, asked.values())))
def test_a_job_cut_short_goes_on_to_the_same_bytes(tmp_path, asked):
    whole, broken = (make_job(tmp_path / name, **asked, **QUICK) for name in ("whole", "broken"))
    _, events = finished(whole)
    told = [json.dumps(event) for event in events if event["event"] in ("step", "state")]
    for cut in (1, len(told) // 2, len(told) - 1):
        (broken / "steps.jsonl").write_text("".join(line + "\n" for line in told[:cut]))
        report, more = finished(broken)
        known = sum(json.loads(line)["event"] == "step" for line in told[:cut])
        numbers = [event["step"] for event in more if event["event"] == "step"]
        assert numbers == list(range(known + 1, len(report["steps"]) + 1))
        name = "adapter_model.safetensors"
        assert (whole / "out" / name).read_bytes() == (broken / "out" / name).read_bytes()


@pytest.mark.parametrize("asked", SEARCHED, ids=lambda asked: "-".join(map(str, asked.values())))
def test_a_wish_to_stop_gives_the_best_so_far_and_a_report(tmp_path, asked):
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 5:
            raise StopSearch

    job = make_job(tmp_path, **asked, **QUICK)
    run(job, stop)
    report = json.loads((job / "out" / "report.json").read_text())
    assert report["stopped"] is True
    assert len(report["steps"]) == 5
    assert (job / "out" / "adapter_model.safetensors").exists()


def test_a_wish_uttered_before_the_search_ends_it_at_its_first_step(tmp_path):
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "stage" and event["stage"] == "load":
            raise StopSearch

    job = make_job(tmp_path, method="lorahub", **QUICK)
    run(job, stop)
    assert len(json.loads((job / "out" / "report.json").read_text())["steps"]) == 1


def test_known_losses_of_modules_alone_are_not_scored_again(tmp_path):
    asked = {"n_modules": 6, "select": "screen:2", "method": "lorahub", "budget": 3, **QUICK}
    first, again, other = (make_job(tmp_path / name, **asked) for name in ("first", "again", "other"))
    report, events = finished(first)
    screened = [event for event in events if event["event"] == "screened"]
    assert len(screened) == 6
    assert all(len(event["nats"]) == 5 for event in screened)
    lines = "".join(json.dumps(event) + "\n" for event in screened)
    for job in (again, other):
        (job / "screened.jsonl").write_text(lines)
    known, told = finished(again)
    assert [event for event in told if event["event"] == "screened"] == []
    assert report["candidates_scored"] - known["candidates_scored"] == 6
    assert known["modules"] == report["modules"]
    change("template", "say {input}")(other)
    differs, told = finished(other)
    assert len([event for event in told if event["event"] == "screened"]) == 6
    assert differs["candidates_scored"] == report["candidates_scored"]


@pytest.mark.slow  # a fit for each example and each baseline
@pytest.mark.parametrize("asked", [{"method": "lorahub", "budget": 4}, {"search": "adam", "budget": 9}])
def test_any_search_is_judged_by_what_it_left_out_where_nothing_is_held_out(tmp_path, asked):
    job = make_job(tmp_path, **{"method": "exact", **asked, "baselines": "always", "max_new_tokens": 4})
    (job / "held_out.jsonl").unlink(missing_ok=True)
    report, _ = finished(job)
    rows = {row["key"]: row["left_out_loss_nats"] for row in report["baselines"]}
    assert all(rows[key] > 0 for key in ("composed", "best_single", "lora_on_shots", "zero_shot"))
    assert "left out of a fit once" in report["verdict"]["text"]


@pytest.mark.slow  # a job for each example that is left out
def test_without_held_out_examples_each_is_judged_by_a_choice_that_did_not_see_it(tmp_path):
    asked = {"method": "exact", "search": "adam", "budget": 9, "select": "screen:1", "held_out": False}
    report, _ = finished(make_job(tmp_path / "whole", n_modules=4, max_new_tokens=4, **asked))
    nats, tokens, chosen = 0.0, 0, []
    for i, (question, answer) in enumerate(EXAMPLES):
        part = make_job(tmp_path / str(i), n_modules=4, baselines="none", **asked)
        write_examples(part / "examples.jsonl", EXAMPLES[:i] + EXAMPLES[i + 1 :])
        made, _ = finished(part)
        chosen.append(made["modules"][0]["name"])
        figures = evaluate_adapter(
            base=Source("base", part / "base"),
            adapter=Source("out", part / "out"),
            examples=[Example(question, answer)],
        )
        length = len(answer.split()) + 1  # and the end of the sequence
        nats += figures["loss_nats_per_token"] * length
        tokens += length
    assert len(set(chosen)) > 1  # else nothing would be proved
    composed = report["baselines"][-1]
    assert composed["left_out_loss_nats"] == pytest.approx(nats / tokens, rel=1e-3)


def test_what_a_choice_by_all_examples_left_out_is_not_reported_as_left_out(tmp_path, monkeypatch):
    find = WeightSearch.find
    monkeypatch.setattr(
        WeightSearch,
        "find",
        lambda self, journal: replace(find(self, journal), left_out=(2.0,) * len(EXAMPLES)),
    )
    asked = {"method": "exact", "search": "adam", "budget": 9, "baselines": "none"}
    blind, _ = finished(make_job(tmp_path / "all", select="random:2", **asked))
    assert blind["baselines"][-1]["left_out_loss_nats"] > 0
    seeing, _ = finished(make_job(tmp_path / "screened", select="screen:2", **asked))
    assert seeing["baselines"][-1]["left_out_loss_nats"] is None


def test_two_hundred_modules_are_screened_in_two_hundred_candidates(tmp_path):
    job = make_job(tmp_path, n_modules=200, select="screen:3", method="lorahub", budget=2, **QUICK)
    report, events = finished(job)
    # each on one shot, and the best fifth on the others too
    assert len([event for event in events if event["event"] == "screened"]) == 200 + 40
    assert report["candidates_scored"] <= 200 + 1 + 2 + 2  # the base, the search, the result's own loss


def test_two_hundred_copies_of_one_module_are_screened_as_one(tmp_path):
    job = make_job(tmp_path, n_modules=1, select="screen:3", method="exact", search="greedy", **QUICK)
    change("modules", [{"name": f"m{i}", "folder": "modules/0"} for i in range(200)])(job)
    report, events = finished(job)
    assert len([event for event in events if event["event"] == "screened"]) == 1
    (row,) = report["modules"]
    assert row["name"] == "m0"
    assert {copy["name"] for copy in row["copies"]} == {f"m{i}" for i in range(1, 200)}


def test_modules_that_do_not_fit_are_left_out_with_a_reason(tmp_path):
    job = make_job(tmp_path, method="lorahub", budget=3, **QUICK)
    base = make_base(tmp_path / "wider", "llama")
    make_module(job / "modules/foreign", base, seed=9, targets=("q_proj",))
    make_module(job / "modules/wide", job / "base", seed=9, rank=3)
    rows = [{"name": name, "folder": f"modules/{name}"} for name in ("foreign", "wide", "0", "1")]
    change("modules", rows)(job)
    report, _ = finished(job)
    left_out = {row["name"]: row["reason"] for row in report["modules_left_out"]}
    assert left_out.keys() == {"foreign", "wide"}
    assert "this base model does not have" in left_out["foreign"]
    assert "has rank 3" in left_out["wide"]
    change("modules", rows[:1])(job)
    with pytest.raises(ComposeError, match="foreign") as refusal:
        finished(job)
    assert refusal.value.code == "modules_do_not_match"


def test_the_adapter_is_whole_before_the_race_begins(tmp_path):
    job = make_job(tmp_path, budget=3, method="lorahub", baselines="thorough")
    contents = []

    def look(event: dict[str, Any]) -> None:
        if event["event"] in ("adapter", "baseline"):
            folder = job / "out.unfinished"
            contents.append([(folder / name).read_bytes() for name in ADAPTER_FILES])

    run(job, look)
    last = [(job / "out" / name).read_bytes() for name in ADAPTER_FILES]
    assert len(contents) == 10
    assert all(content == last for content in contents)


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


def test_every_baseline_tells_its_own_cost_as_it_is_finished(tmp_path):
    report, events = finished(make_job(tmp_path, method="svd", search="greedy", baselines="thorough"))
    rows = [event for event in events if event["event"] == "baseline"]
    assert [row["key"] for row in rows] == [
        "composed",
        "zero_shot",
        "best_single",
        "uniform",
        "in_context",
        "composed_in_context",
        "lora_on_shots",
        "tuned",
        "random_loras",
        "lorahub",
    ]
    assert sorted(row["key"] for row in report["baselines"]) == sorted(row["key"] for row in rows)
    told = choices.BASELINES_OF_CHOICE["thorough"]
    assert [(row["key"], row["label"]) for row in rows[1:]] == [(each.key, each.label) for each in told]
    cost = {row["key"]: row["cost"] for row in rows}
    assert cost["zero_shot"]["candidates"] == 1
    assert (
        cost["best_single"]["candidates"] == 7
    )  # the base and three modules; then how each module changes the logits
    rows_by_key = {row["key"]: row for row in rows}
    steps = int(rows_by_key["lora_on_shots"]["detail"].split()[2])
    assert cost["lora_on_shots"]["gradient_steps"] >= steps > 0
    assert f", {steps} steps at " in rows_by_key["lora_on_shots"]["detail"]
    assert cost["lorahub"]["candidates"] == 40 + 1 + 1  # the search, the base, the result
    assert all(row["cost"]["seconds"] > 0 for row in rows)
    in_context = next(row for row in rows if row["key"] == "in_context")
    assert in_context["left_out_loss_nats"] > 0
    assert "tokens a question" in in_context["detail"]


def test_lorahub_says_why_it_cannot_be_measured(tmp_path):
    job = make_job(tmp_path, method="exact", search="greedy", baselines="thorough", held_out=False)
    make_module(job / "modules/wide", job / "base", seed=9, rank=3)
    rows = [{"name": name, "folder": f"modules/{name}"} for name in ("0", "wide")]
    change("modules", rows)(job)
    report, _ = finished(job)
    row = next(row for row in report["baselines"] if row["key"] == "lorahub")
    assert row["few_shot_loss_nats"] is None
    assert "has rank 3" in row["detail"]


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "exact", "search": "ngopt", "budget": 12},
        {"method": "exact", "search": "cma", "budget": 12},
        {"method": "exact", "search": "lbfgs", "budget": 30},
        {"method": "exact", "search": "adam", "budget": 30},
        {"method": "exact", "search": "greedy", "budget": 30},
        {"method": "exact", "budget": 30},
    ],
    ids=lambda asked: asked.get("search", "auto"),
)
def test_the_loss_of_a_step_is_the_few_shot_loss_in_every_search(tmp_path, asked):
    composition = CompositionRun(read_job_spec(make_job(tmp_path, **asked, **QUICK)), lambda event: None)
    composition.make(tmp_path / "out")
    weights = torch.tensor([step.weights for step in composition.found.steps])
    losses = token_mean(composition.scorer.nats(composition.method, weights), composition.scorer.label_tokens)
    assert [step.loss for step in composition.found.steps] == pytest.approx(losses.tolist(), rel=1e-3)


def test_answers_themselves_can_be_what_a_search_raises(tmp_path):
    report, _ = finished(make_job(tmp_path, search="greedy", objective="exact_match", **QUICK))
    assert report["objective"] == "exact_match"
    shares = [step["loss"] for step in report["steps"]]
    assert all(0 <= share % 0.2 < 0.0101 for share in shares)  # five shots, and the loss's hundredth


def test_a_module_of_an_unusual_rank_changes_neither_the_lora_nor_the_published_method(tmp_path):
    """As a published composition, whose rank is the sum of its modules'."""
    job = make_job(tmp_path, baselines="thorough", budget=20)
    shutil.rmtree(job / "modules" / "0")
    make_module(job / "modules" / "0", job / "base", seed=0, rank=9)
    report, _ = finished(job)
    details = {row["key"]: row["detail"] for row in report["baselines"]}
    assert details["lora_on_shots"].startswith("rank 2,")
    assert details["lorahub"].endswith("the 2 of 3 modules that agree in rank and layers")


def test_near_goes_by_the_modules_texts(tmp_path):
    job = make_job(tmp_path, n_modules=3, select="near:1", method="lorahub", budget=2, **QUICK)
    words = ("leg hat leg", "cat chat dog chien fig figue saw scie bay baie", "hat hat")
    rows = [{"name": f"m{i}", "folder": f"modules/{i}", "text": text} for i, text in enumerate(words)]
    change("modules", rows)(job)
    report, _ = finished(job)
    assert [row["name"] for row in report["modules"]] == ["m1"]
    change("modules", [{**row, "text": ""} for row in rows])(job)
    with pytest.raises(ComposeError, match="needs the text"):
        finished(job)
    change("select", "screen:2+near:1")(job)
    assert len(finished(job)[0]["modules"]) == 1


def test_only_the_chosen_modules_are_composed(tmp_path):
    asked = {"n_modules": 4, "select": "random:3+screen:2", "budget": 30, "rank": "full"}
    report, _ = finished(make_job(tmp_path, **asked))
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
        (lambda job: (job / "examples.jsonl").write_text('{"input": "a"'), "invalid_examples"),
        (lambda job: write_examples(job / "examples.jsonl", [("a", " ")]), "missing_output"),
        (lambda job: write_examples(job / "examples.jsonl", [("cat " * 3000, "b")]), "example_too_long"),
        (lambda job: (job / "base" / "config.json").unlink(), "base_model_unusable"),
        (lambda job: (job / "modules/0/adapter_config.json").unlink(), "module_unreadable"),
        (lambda job: [as_dora(job / f"modules/{i}") for i in range(3)], "modules_do_not_match"),
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
from composer.core.search.dispatch import WeightSearch
from composer.core.job import CompositionRun, run
from composer.core.model.scorer import token_mean
from composer.core.evaluation.scoring import evaluate_adapter
child = os.fork()
if child == 0:
    run(Path(sys.argv[1]), lambda event: None)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow  # a process of its own imports everything
def test_a_child_forked_after_the_import_can_do_the_job(tmp_path):
    job = make_job(tmp_path, budget=30)
    done = subprocess.run([sys.executable, "-c", FORK, str(job)], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0
    assert (job / "out" / "adapter_model.safetensors").exists()


def test_a_job_whose_time_is_bounded_is_the_job_with_the_budget_that_fits(tmp_path):
    """Who runs it is told what candidates cost, once, and says how many the search may have."""
    measured = []

    def answer(event):
        if event["event"] == "measured":
            measured.append(event)
            FittedWork(budget=20, training=20).write(tmp_path / "bounded")

    bounded = make_job(tmp_path / "bounded", budget=30, fits_time=True, **QUICK)
    run(bounded, answer)
    (cost,) = measured
    assert cost["candidates"] == 8
    assert cost["seconds"] > 0
    report = json.loads((bounded / "out" / "report.json").read_text())
    assert (report["budget"], report["budget_fitted"]) == (30, 20)
    (told,) = (text for text in report["warnings"] if "fit into the time" in text)
    assert told.startswith(
        "20 of 30 candidates fit into the time, so the search had those. For more, compose"
    )
    assert "give fewer examples (here " in told
    own, _ = finished(make_job(tmp_path / "own", budget=20, **QUICK))
    assert report["steps"] == own["steps"]
    assert own["budget_fitted"] is None
    written = [
        (job / "out" / "adapter_model.safetensors").read_bytes() for job in (bounded, tmp_path / "own")
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize("content", ["[]", "{}", '{"budget": 0, "training": 1}', '{"budget": "many"}', "{"])
def test_an_answer_on_the_time_that_says_nothing_is_refused(tmp_path, content):
    job = make_job(tmp_path, budget=20, fits_time=True, **QUICK)
    (job / "fitted.json").write_text(content)
    with pytest.raises(ComposeError, match=r"fitted\.json"):
        run(job, lambda event: None)
