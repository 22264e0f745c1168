"""How soon the default reaches the few-shot loss that LoraHub's published loop ends with, on the demo world.

    python -m benchmarks.reach [--tasks NAME …] [--out FOLDER]

For each composable task: the published loop runs whole (all modules, budget 40, tensors in memory to weights
chosen) and its loss on the five shots is taken, in nats per token, penalty left out. Then `auto` runs; what
counts is the time from the first module tried alone to the first step whose weights have that loss or less
on all five shots, scored again by themselves. One thread, both in one warm process, in turn.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.compose_quality import COMPOSABLE
from benchmarks.machine import machine
from benchmarks.reference import Reference
from benchmarks.unseen import BUNDLE, TASKS_BY_NAME, Draw, draw_examples, modules_without, write_job
from composer.core.job import CompositionRun
from composer.core.methods.base import Method
from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack, read_module, stack_modules
from composer.core.spec.errors import StopSearch
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import read_job_spec

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = 200  # of the default's search, the greedy choice and all of the bag among them


def main(argv: list[str] | None = None) -> None:
    arguments = read_arguments(argv)
    torch.set_num_threads(1)
    base, stack = demo_world()
    rows = [row_of(task, base, stack) for task in [arguments.tasks[0], *arguments.tasks]][
        1:
    ]  # the first one warms up
    reached = [row for row in rows if row["auto_s"] is not None]
    content = {
        "schema": 1,
        "machine": machine(),
        "tasks": len(rows),
        "reached": len(reached),
        "reference_median_s": statistics.median(row["reference_s"] for row in rows),
        "auto_median_s": statistics.median(row["auto_s"] for row in reached),
        "share_median": round(statistics.median(row["auto_s"] / row["reference_s"] for row in reached), 3),
        "rows": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "reach.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in content.items() if key != "rows"}, indent=1))


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=COMPOSABLE, default=COMPOSABLE)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def demo_world() -> tuple[FrozenBaseModel, ModuleStack]:
    stack = stack_modules([read_module(BUNDLE / "modules" / name, name) for name in modules_without(None)])
    base = FrozenBaseModel.load(BUNDLE / "base")
    base.hook(layer.path for layer in stack.layers)
    return base, stack


def row_of(task: str, base: FrozenBaseModel, stack: ModuleStack) -> dict[str, Any]:
    draw = draw_examples(TASKS_BY_NAME[task].combination, 0, verdict=0, truth=0)
    scorer = FewShotScorer(base, base.encode([Example(*shot) for shot in draw.shots]))

    def loss_of(method: Method, weights: Sequence[float]) -> float:
        nats = scorer.nats(method, torch.tensor([list(weights)], dtype=torch.float32))
        return float(token_mean(nats, scorer.label_tokens))

    seconds, weights = published(scorer)
    goal = loss_of(FactorSum(stack), weights)
    exact = ExactSum(stack)
    found = next(
        ((after, loss) for after, tried in steps_of_auto(draw) if (loss := loss_of(exact, tried)) <= goal),
        (None, None),
    )
    return {
        "task": task,
        "reference_s": round(seconds, 3),
        "reference_loss_nats": round(goal, 4),
        "auto_s": None if found[0] is None else round(found[0], 3),
        "auto_loss_nats": found[1],
    }


def published(scorer: FewShotScorer) -> tuple[float, list[float]]:
    """(seconds, weights) of the published loop on the same tokens."""
    reference = Reference.load(BUNDLE / "base", [BUNDLE / "modules" / name for name in modules_without(None)])
    inputs = {name: scorer.batch.inputs[name] for name in ("input_ids", "attention_mask")}
    started = time.monotonic()
    weights = reference.search([{**inputs, "labels": scorer.batch.labels}])
    return time.monotonic() - started, weights


def steps_of_auto(draw: Draw) -> list[tuple[float, list[float]]]:
    """(seconds since modules were first tried alone, weights by module) of each step of the default."""
    began: list[float] = []
    steps: list[tuple[float, list[float]]] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "stage" and event["stage"] == "screen":
            began.append(time.monotonic())
        if event["event"] == "step":
            steps.append((time.monotonic() - began[0], event["weights"]))
        if len(steps) >= STEPS:
            raise StopSearch

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(
            folder, {"baselines": "none"}, modules=modules_without(None), examples=draw.shots, held_out=()
        )
        CompositionRun(read_job_spec(folder), on_event).make(folder / "out")
    return steps


if __name__ == "__main__":
    main()
