"""LoraHub's own protocol on BIG-Bench Hard: 27 tasks, 5 shots, 5 draws of 20 modules.

    python -m benchmarks.bbh --data bbh.jsonl.gz --base FLAN_T5_LARGE --modules FOLDER [--out FOLDER]

For whoever has FLAN-T5-large, the 196 modules published for it (each in a folder of its own under
--modules) and the tasks, one {"task", "input", "target"} a line. The shots of a task are the same in
every draw and so is the optimiser's seed; only which modules are drawn changes, as in the published
code. Answers are counted as there: stripped, lower case, without full stops. "best" is the best draw
by its test score, which nobody can choose beforehand; it is shown because the paper shows it.

Source: Huang et al., LoraHub, arXiv:2307.13269, sections 4 and 5.
"""

import argparse
import gzip
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.machine import machine
from composer.core.job import CompositionRun
from composer.core.spec import choices
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import read_job_spec
from composer.core.spec.metrics import is_reference_match

SHOTS = 5
METHODS = ("auto", "lorahub")
ALONG = ("zero_shot", "in_context", "lora_on_shots")  # baselines, measured along with the first draw


def main(argv: Sequence[str] | None = None) -> None:
    arguments = read_arguments(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in arguments.tasks:
        for row in task_rows(arguments, name, arguments.examples[name], arguments.found):
            rows.append(row)
            print(json.dumps(row), flush=True)
            write(arguments, rows)  # it takes days where the base is large: what is measured is kept


def write(arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    content = {"schema": 1, "machine": machine(), "base": str(arguments.base), "rows": rows}
    (arguments.out / "bbh.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "bbh.md").write_text(as_markdown(rows), encoding="utf-8")


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked, with the examples of each task and the modules' folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the tasks, .jsonl or .jsonl.gz")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--modules", type=Path, required=True, help="folder of the modules' folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    parser.add_argument("--tasks", nargs="+", help="names of tasks; all if left out")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--n-modules", type=int, default=20)
    parser.add_argument("--limit", type=int, help="test examples of each task; all if left out")
    parser.add_argument("--seed", type=int, default=choices.DEFAULT_SEED)
    arguments = parser.parse_args(argv)
    try:
        arguments.examples = read_tasks(arguments.data)
    except (OSError, ValueError, KeyError, TypeError):
        parser.error(f"{arguments.data} holds no tasks: it needs lines of task, input and target, as JSON.")
    arguments.tasks = arguments.tasks or sorted(arguments.examples)
    if unknown := [name for name in arguments.tasks if name not in arguments.examples]:
        parser.error(
            f"{arguments.data} has no task {unknown[0]}; it has {', '.join(sorted(arguments.examples))}."
        )
    if not (arguments.base / "config.json").is_file():
        parser.error(f"{arguments.base} holds no base model: it has no config.json.")
    arguments.found = sorted(path.parent for path in arguments.modules.glob("*/adapter_config.json"))
    if not arguments.found:
        parser.error(f"{arguments.modules} holds no folder with an adapter_config.json.")
    return arguments


def read_tasks(path: Path) -> dict[str, list[Example]]:
    """The examples of each task, in the order of the file."""
    kind = gzip.open if path.suffix == ".gz" else open
    tasks: dict[str, list[Example]] = {}
    with kind(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            tasks.setdefault(row["task"], []).append(Example(row["input"], row["target"]))
    return tasks


def task_rows(
    arguments: argparse.Namespace, name: str, task_examples: Sequence[Example], modules: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    """One row for every baseline and for every method and draw."""
    shuffled = Random(f"{arguments.seed} {name}").sample(list(task_examples), len(task_examples))
    examples, test = shuffled[:SHOTS], shuffled[SHOTS:][: arguments.limit]
    for draw in range(arguments.draws):
        drawn = Random(arguments.seed + draw).sample(list(modules), min(arguments.n_modules, len(modules)))
        for method in METHODS:
            baselines = "always" if draw == 0 and method == METHODS[0] else "none"
            with tempfile.TemporaryDirectory() as scratch:
                composition = composed(Path(scratch), arguments, method, baselines, drawn, examples, test)
            measured = {method: composition.composed, **{r.key: r for r in composition.baselines}}
            for key, baseline in measured.items():
                if key == method or key in ALONG:
                    yield {
                        "task": name,
                        "method": key,
                        "draw": draw,
                        "n": len(test),
                        "reference_match_percent": reference_match_percent(baseline.answers, test),
                        "optimizer": composition.found.optimizer if key == method else None,
                    }


def composed(
    folder: Path,
    arguments: argparse.Namespace,
    method: str,
    baselines: str,
    modules: Sequence[Path],
    examples: Sequence[Example],
    test: Sequence[Example],
) -> CompositionRun:
    job = {
        "method": method,
        "baselines": baselines,
        "seed": arguments.seed,
        "base": {"name": arguments.base.name, "folder": str(arguments.base.resolve())},
        "modules": [{"name": module.name, "folder": str(module.resolve())} for module in modules],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    for name, pairs in (("examples.jsonl", examples), ("held_out.jsonl", test)):
        lines = [json.dumps({"input": e.input, "output": e.output}) + "\n" for e in pairs]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    composition = CompositionRun(read_job_spec(folder), lambda event: None)
    composition.make(folder / "out")
    return composition


def reference_match_percent(answers: Sequence[str] | None, test: Sequence[Example]) -> float | None:
    """None where a baseline could not be asked, such as prompts that do not fit the base."""
    if answers is None:
        return None
    matches = [is_reference_match(answer, e.output) for answer, e in zip(answers, test, strict=True)]
    return round(100 * sum(matches) / len(matches), 2)


# --- the table ----------------------------------------------------------------


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [*ALONG, *(f"{method} {what}" for method in METHODS for what in ("average", "best"))]
    lines = [
        "# BIG-Bench Hard by the published protocol, percent",
        "",
        f"Made by `python -m benchmarks.bbh`. Machine: {machine()}.",
        "",
        f"| task | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    table = {task: task_cells(task, rows) for task in dict.fromkeys(row["task"] for row in rows)}
    for task, cells in table.items():
        lines.append(f"| {task} | {' | '.join(map(shown, cells))} |")
    means = [mean_of([cells[i] for cells in table.values()]) for i in range(len(columns))]
    return "\n".join([*lines, f"| **mean** | {' | '.join(map(shown, means))} |"]) + "\n"


def task_cells(task: str, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    def percents(method: str) -> list[float | None]:
        own = [row for row in rows if row["task"] == task and row["method"] == method]
        return [row["reference_match_percent"] for row in own]

    cells = [mean_of(percents(key)) for key in ALONG]
    for method in METHODS:
        found = [percent for percent in percents(method) if percent is not None]
        cells += [mean_of(found), max(found, default=None)]
    return cells


def mean_of(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if measured else None


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
