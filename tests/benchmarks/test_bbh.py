"""The published protocol, whole, on a base of a million parameters and a sample of invented tasks."""

import json

import pytest

from benchmarks import bbh
from benchmarks.unseen import BUNDLE
from demo.catalog import task_examples
from demo.grammar import Combination

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bbh")
    rows = [
        {"task": name, "i": i, "input": example.input, "target": example.output}
        for name in ("body-answer", "german")
        for i, example in enumerate(task_examples(Combination.of(name)).held_out[:15])
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"data": folder / "tasks.jsonl", "base": BUNDLE / "base", "modules": BUNDLE / "modules"}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    bbh.main([*arguments, "--draws", "2", "--n-modules", "6", "--out", str(folder / "out")])
    return folder / "out"


def test_every_task_draw_and_method_has_its_row(result):
    rows = json.loads((result / "bbh.json").read_text())["rows"]
    found = {(row["task"], row["method"], row["draw"]) for row in rows}
    for task in ("body-answer", "german"):
        assert {(task, method, draw) for method in bbh.METHODS for draw in (0, 1)} <= found
        assert {(task, baseline, 0) for baseline in bbh.ALONG} <= found
    assert all(row["n"] == 10 for row in rows)
    assert {row["optimizer"] for row in rows if row["method"] == "lorahub"} == {"NGOpt -> Cobyla"}


def test_the_table_shows_the_average_and_the_best_of_the_draws(result):
    rows = json.loads((result / "bbh.json").read_text())["rows"]
    own = [
        row["reference_match_percent"]
        for row in rows
        if row["task"] == "body-answer" and row["method"] == "auto"
    ]
    (line,) = [x for x in (result / "bbh.md").read_text().splitlines() if x.startswith("| body-answer")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[4:6] == [f"{sum(own) / 2:.1f}", f"{max(own):.1f}"]


def test_answers_are_counted_as_the_published_code_counts_them():
    assert (
        bbh.reference_match_percent([" Yes. ", "no"], [bbh.Example("", "yes"), bbh.Example("", "Yes")]) == 50
    )
    assert bbh.reference_match_percent(None, []) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"data": "no-such-file.jsonl"}, "holds no tasks"),
        ({"data": "rubbish.jsonl"}, "holds no tasks"),
        ({"base": "empty"}, "holds no base model"),
        ({"modules": "empty"}, "holds no folder with an adapter_config.json"),
        ({"tasks": "sheep"}, "has no task sheep; it has body-answer"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_before_anything_is_computed(
    tmp_path, monkeypatch, capsys, wrong, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "rubbish.jsonl").write_text("[1]\n")
    (tmp_path / "tasks.jsonl").write_text('{"task": "body-answer", "input": "a", "target": "b"}\n')
    options = {"data": "tasks.jsonl", "base": BUNDLE / "base", "modules": BUNDLE / "modules"} | wrong
    with pytest.raises(SystemExit) as refusal:
        bbh.main([str(part) for name, value in options.items() for part in (f"--{name}", value)])
    assert refusal.value.code == 2
    assert told in capsys.readouterr().err
