"""How good the default is after so many scored candidates, on the demo world.

    python -m benchmarks.compose_curve [--budgets 40 100 200 400 1000] [--draws 5] [--out FOLDER]

Every composable task, five draws of five shots, 200 held-out examples (or as many as the task has): the
default search with each budget, anew for each. A gradient step counts as three candidates. Screening every
module alone and scoring the base come before the search and are counted apart.

An answer is right if every token of the expected one, and its end, is the most likely after those before
it: then the greedy answer is the expected one. So one forward pass measures all held-out examples.

Each row is written as soon as it is measured, and a later run measures only what is missing. Nothing is
tuned on these examples.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.compose_quality import COMPOSABLE, HELD_OUT
from benchmarks.machine import machine
from benchmarks.unseen import BUNDLE, TASKS_BY_NAME, draw_examples, modules_without
from composer.core.spec.examples import Example
from demo.grammar import DemoExample

RESULTS = Path(__file__).resolve().parent / "results"
BUDGETS = (40, 100, 200, 400, 1000)
DRAWS = 5


@dataclass(frozen=True)
class Point:
    """One composition to be made."""

    task: str
    draw: int
    budget: int


def main(argv: list[str] | None = None) -> None:
    asked = read_arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers, which start afresh
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "compose_curve.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    known = {Point(row["task"], row["draw"], row["budget"]) for row in rows}
    missing = [point for point in points(asked) if point not in known]
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(asked.workers, mp_context=spawn) as pool,
        path.open("a", encoding="utf-8") as file,
    ):
        for row in pool.map(measured, missing):
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            print(f"{len(rows)}/{len(known) + len(missing)} {json.dumps(row)}", flush=True)
    (asked.out / "compose_curve.md").write_text(page(rows), encoding="utf-8")


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS))
    parser.add_argument("--tasks", nargs="+", choices=COMPOSABLE, default=COMPOSABLE)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def points(asked: argparse.Namespace) -> Iterator[Point]:
    """Draw by draw, so that what is measured so far is balanced."""
    for draw in range(asked.draws):
        for budget in asked.budgets:
            yield from (Point(task, draw, budget) for task in asked.tasks)


def measured(point: Point) -> dict[str, Any]:
    """Exact match in percent after one search, with what it spent."""
    import torch

    from composer.core.model.scorer import FewShotScorer, token_mean
    from composer.core.search.gauss_newton import search_gauss_newton
    from composer.core.search.journal import Journal

    base, method = world()
    draw = draw_examples(TASKS_BY_NAME[point.task].combination, point.draw, verdict=HELD_OUT, truth=0)
    scorer = FewShotScorer(base, base.encode([Example(*shot) for shot in draw.shots]))
    alone = token_mean(scorer.nats_of_singles(method.stack), scorer.label_tokens).tolist()
    base_loss = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    screened, started = scorer.candidates_scored, time.process_time()
    found = search_gauss_newton(
        scorer,
        method,
        Journal(lambda step: None),
        single_losses=alone,
        base_loss=base_loss,
        budget=point.budget,
    )
    searched_s = time.process_time() - started
    adapters = method.adapters(torch.tensor([found.weights]))
    return {
        "task": point.task,
        "draw": point.draw,
        "budget": point.budget,
        "n": len(draw.verdict),
        "exact_match_percent": percent_right(base, adapters, draw.verdict),
        "candidates_scored": scorer.candidates_scored - screened,
        "gradient_steps": scorer.gradient_steps,
        "screened": screened,
        "search_cpu_s": round(searched_s, 3),
        "optimizer": found.optimizer,
        "machine": machine(),
    }


@cache
def world() -> tuple[Any, Any]:
    """The base and the method auto on all modules, read once by each worker."""
    import torch

    from composer.core.methods.layerwise import Auto
    from composer.core.model.base_model import FrozenBaseModel
    from composer.core.modules.module_stack import read_module, stack_modules

    torch.set_num_threads(1)
    base = FrozenBaseModel.load(BUNDLE / "base")
    stack = stack_modules([read_module(BUNDLE / "modules" / name, name) for name in modules_without(None)])
    base.hook(layer.path for layer in stack.layers)
    return base, Auto(stack)


def percent_right(base: Any, adapters: Any, held_out: Sequence[DemoExample]) -> float:
    """Percent of the examples whose every label token is the most likely one."""
    import torch

    from composer.core.model.label_logits import label_tokens

    batch = base.encode([Example(*example) for example in held_out])
    with torch.no_grad():
        logits, examples = base.label_logits(batch, adapters)
    wrong = logits[0].argmax(-1) != label_tokens(batch, examples)
    return round(100 * (1 - len(examples[wrong].unique()) / len(held_out)), 2)


# --- as a page ----------------------------------------------------------------


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The curve by task, and its mean."""
    budgets = sorted({row["budget"] for row in rows})
    draws = len({row["draw"] for row in rows})
    lines = [
        "# How good after so many scored candidates",
        "",
        "Made by `python -m benchmarks.compose_curve` on the demo world: held-out exact match in percent of",
        f"the default with each budget, composable tasks, mean over {draws} draws of five examples and, in",
        "brackets, the lowest and the highest draw. A gradient step counts as three candidates; screening,",
        f"one candidate for each of {rows[0]['screened'] - 1} modules and the base, comes before and is not",
        "in the budget.",
        f"Machine: {' / '.join(sorted({row['machine'] for row in rows}))}.",
        "",
        f"| task | {' | '.join(f'{budget:,}' for budget in budgets)} |",
        f"| --- |{' ---: |' * len(budgets)}",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        lines.append(f"| {task} | {' | '.join(cell(rows, task, budget) for budget in budgets)} |")
    means = [f"**{mean_over_tasks(rows, budget):.1f}**" for budget in budgets]
    used = [f"{statistics.mean(map(units, of_budget(rows, budget))):.0f}" for budget in budgets]
    seconds = [
        f"{statistics.median(r['search_cpu_s'] for r in of_budget(rows, budget)):.1f}" for budget in budgets
    ]
    lines += [
        f"| **mean** | {' | '.join(means)} |",
        f"| candidates really scored, mean | {' | '.join(used)} |",
        f"| CPU seconds of the search, median | {' | '.join(seconds)} |",
        "",
    ]
    return "\n".join(lines)


def of_budget(rows: Sequence[Mapping[str, Any]], budget: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["budget"] == budget]


def units(row: Mapping[str, Any]) -> int:
    return int(row["candidates_scored"] + 3 * row["gradient_steps"])


def exact_match(rows: Sequence[Mapping[str, Any]], task: str, budget: int) -> list[float]:
    return [row["exact_match_percent"] for row in of_budget(rows, budget) if row["task"] == task]


def cell(rows: Sequence[Mapping[str, Any]], task: str, budget: int) -> str:
    own = exact_match(rows, task, budget)
    return f"{statistics.mean(own):.1f} ({min(own):.0f}-{max(own):.0f})" if own else ""


def mean_over_tasks(rows: Sequence[Mapping[str, Any]], budget: int) -> float:
    tasks = {row["task"] for row in of_budget(rows, budget)}
    return statistics.mean(statistics.mean(exact_match(rows, task, budget)) for task in tasks)


if __name__ == "__main__":
    main()
