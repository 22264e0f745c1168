"""The English library as `python -m benchmarks.compose_quality --world english` measures it.

The tasks' own draws of five shots, and as many of their held-out examples as are asked for. Every row is
kept as soon as it is measured; a run that was ended goes on with the next one.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import quality_report
from benchmarks.machine import machine
from benchmarks.unseen import write_job
from demo.english import BASE_NAME, BUNDLE
from demo.english.base import default_folder
from demo.english.catalog import DRAWS, MODULES, TASKS, Task, task_examples

TASKS_BY_NAME = {task.combination.name: task for task in TASKS}
USUAL_TASKS = (  # of every kind, with short prompts
    "en-past-quotes",
    "en-plural-brackets",
    "en-kind-json",
    "en-third-shout",
    "en-ongoing",
    "en-end",
)
USUAL_DRAWS = 1
HELD_OUT = 50  # of a task; an answer costs more than on the small world
MAX_NEW_TOKENS = 24  # no answer of these tasks has more than 20
Order = TypeVar("Order")
VARIANT = {"method": "auto", "baselines": "always"}


@dataclass(frozen=True)
class EnglishOrder:
    """One composition to be made."""

    task: str
    draw: int
    base: Path
    held_out: int


def measure(asked: argparse.Namespace) -> None:
    """Measure what is missing in the result file, and write the tables.

    Args:
        asked: tasks, draws, workers, base, held_out and out; None stands for what is usual here.
    """
    path = asked.out / "compose_quality_english.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    missing = list(orders(asked, {(row["task"], row["draw"]) for row in rows}))
    asked.out.mkdir(parents=True, exist_ok=True)
    for row in measured(missing, asked.workers, quality_row):
        rows.append(row)
        rows.sort(key=lambda row: (list(TASKS_BY_NAME).index(row["task"]), row["draw"]))
        print(f"{row['task']} {json.dumps(row)[:300]}", flush=True)
        write(path, {"schema": 1, "machine": machine(), "rows": rows})
    quality_report.write_english(asked.out, {"machine": machine(), "rows": rows})


def orders(asked: argparse.Namespace, known: set[tuple[str, int]]) -> Iterator[EnglishOrder]:
    base = asked.base or default_folder()
    if not base.is_dir():
        raise SystemExit(f"No base model in {base}. Make it with ./hub demo english, or name it: --base")
    for name in asked.tasks or USUAL_TASKS:
        if name not in TASKS_BY_NAME:
            raise SystemExit(f"There is no task {name}. Choose from {', '.join(TASKS_BY_NAME)}.")
        for draw in range(min(asked.draws or USUAL_DRAWS, DRAWS)):
            if (name, draw) not in known:
                yield EnglishOrder(name, draw, base, asked.held_out or HELD_OUT)


def measured(
    missing: Sequence[Order], workers: int, made_by: Callable[[Order], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The row of each order as soon as it is made, in processes of one thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers, which start afresh
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for done in as_completed([pool.submit(made_by, order) for order in missing]):
            yield done.result()


def write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def composed(
    task: str, base: Path, asked: Mapping[str, Any], modules: Sequence[str], *, held_out: int, draw: int = 0
) -> Any:
    """One whole composition on a task, with all that it knows of itself.

    Args:
        base: the folder of the base model.
        asked: as job.json has it: the method, the baselines.
        modules: names of the library's modules that take part.
        held_out: how many of the task's examples, at most.
        draw: of the five shots.
    """
    from composer.core.job import CompositionRun
    from composer.core.spec.job_spec import read_job_spec

    examples = task_examples(TASKS_BY_NAME[task].combination)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(
            folder,
            {**asked, "template": "chat", "max_new_tokens": MAX_NEW_TOKENS},
            base={"name": BASE_NAME, "folder": str(base)},
            bundle=BUNDLE,
            modules=modules,
            examples=examples.shots[draw],
            held_out=examples.held_out[:held_out],
        )
        composition = CompositionRun(read_job_spec(folder), lambda event: None)
        composition.make(folder / "out")
    return composition


def quality_row(order: EnglishOrder) -> dict[str, Any]:
    """Exact match in percent of the composition and every baseline, with what the report says of each."""
    task: Task = TASKS_BY_NAME[order.task]
    everything = [module.name for module in MODULES]
    composition = composed(
        order.task, order.base, VARIANT, everything, held_out=order.held_out, draw=order.draw
    )
    rows = composition.rows
    return {
        "kind": task.kind,
        "task": order.task,
        "draw": order.draw,
        "variant": "auto",
        "n": len(composition.held_out),
        "exact_match_percent": {key: row["held_out_exact_match_percent"] for key, row in rows.items()},
        "baselines": {key: numbers_in(row) for key, row in rows.items()},
        "verdict": composition.verdict.decision,
        "seconds": composition.seconds,
        "weights": {
            name: round(weight, 3)
            for name, weight in composition.weights_by_name.items()
            if abs(weight) > 0.005
        },
    }


def numbers_in(row: dict[str, Any]) -> dict[str, float]:
    """The figures of a row of the report, without its answers."""
    return {key: value for key, value in row.items() if isinstance(value, int | float)}
