"""How good the default is after so many scored candidates, on the demo world.

    python -m benchmarks.compose_curve [--budgets 40 100 200 400 1000] [--draws 5] [--out FOLDER]

Every composable task, five draws of five shots, 200 held-out examples (or as many as the task has): the
default with each budget, a composition of its own by the function behind the site and the command line,
scored by the adapter that was written, as peft loads it. A gradient step counts as three candidates.
Screening every module alone and scoring the base come before the search and are counted apart.

Each row is written as soon as it is measured, and a later run measures only what is missing. Nothing is
tuned on these examples.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compose_quality import COMPOSABLE, HELD_OUT, Order, composed
from benchmarks.machine import machine
from benchmarks.unseen import TASKS_BY_NAME, draw_examples

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
    """Exact match in percent of one composition, with what its search spent."""
    draw = draw_examples(TASKS_BY_NAME[point.task].combination, point.draw, verdict=HELD_OUT, truth=0)
    order = Order("curve", point.task, point.draw)
    with composed(order, draw, draw.verdict, budget=point.budget, baselines="none") as composition:
        row, spent, screened = composition.rows["composed"], composition.spent, composition.screened
    return {
        "task": point.task,
        "draw": point.draw,
        "budget": point.budget,
        "n": len(draw.verdict),
        "exact_match_percent": row["held_out_exact_match_percent"],
        "candidates_scored": spent.candidates - screened.candidates,
        "gradient_steps": spent.gradient_steps,
        "screened": screened.candidates,
        "search_s": composition.seconds["search"],
        "optimizer": composition.found.optimizer,
        "machine": machine(),
    }


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
        f"{statistics.median(r['search_s'] for r in of_budget(rows, budget)):.1f}" for budget in budgets
    ]
    lines += [
        f"| **mean** | {' | '.join(means)} |",
        f"| candidates really scored, mean | {' | '.join(used)} |",
        f"| seconds of the search, median | {' | '.join(seconds)} |",
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
