"""`python -m composer`, as a person without a server would use it."""

import json

import pytest

from composer.__main__ import main
from tests.composer.core.tiny import make_job


@pytest.fixture
def asked(tmp_path):
    job = make_job(tmp_path / "job")
    return {
        "--base": [str(job / "base")],
        "--modules": [str(job / "modules/0"), str(job / "modules/1")],
        "--examples": [str(job / "examples.jsonl")],
        "--held-out": [str(job / "held_out.jsonl")],
        "--budget": ["30"],
        "--out": [str(tmp_path / "out")],
    }


def arguments(command, asked):
    return [command, *(word for option, values in asked.items() for word in (option, *values))]


def test_compose_writes_an_adapter_that_evaluate_scores_the_same(tmp_path, asked, capsys):
    assert main(arguments("compose", asked)) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "report.json",
    ]
    report = json.loads((out / "report.json").read_text())
    capsys.readouterr()
    scored = {"--base": asked["--base"], "--adapter": [str(out)], "--examples": asked["--held-out"]}
    assert main(arguments("evaluate", scored)) == 0
    figures = json.loads(capsys.readouterr().out)
    composed = report["baselines"][-1]
    assert figures["n"] == 3
    assert figures["exact_match_percent"] == pytest.approx(composed["held_out_exact_match_percent"], abs=0.01)
    scored["--examples"] = asked["--examples"]
    assert main(arguments("evaluate", scored)) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["loss_nats_per_token"] == pytest.approx(report["few_shot_loss_nats"], rel=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--base", "./nowhere"),
        ("--modules", "./nowhere"),
        ("--modules", "no where"),
        ("--method", "magic"),
        ("--budget", "many"),
        ("--batch-size", "0"),
        ("--rank", "0"),
        ("--device", "tpu"),
        ("--objective", "exact_match"),
        ("--search", "adams"),
        ("--max-new-tokens", "0"),
        ("--examples", "nowhere.jsonl"),
        ("--select", "best:3"),
        ("--budget", "0"),
        ("--template", "no place"),
        ("--seed", "-1"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(tmp_path, asked, option, value, capsys):
    asked[option] = [value]
    try:
        status = main(arguments("compose", asked))
    except SystemExit as refused_by_the_parser:
        status = refused_by_the_parser.code
    assert status == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("composer: ")
    assert not (tmp_path / "out").exists()


def test_in_a_log_each_stage_is_a_line(asked, capsys):
    assert main(arguments("compose", asked)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4
    assert all(line.strip() and line.isprintable() for line in lines)


def test_methods_lists_everything_with_its_source(capsys):
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    for name in ("exact", "lorahub", "ngopt", "random:K", "arXiv:2307.13269"):
        assert name in listed
