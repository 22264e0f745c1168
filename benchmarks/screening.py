"""What it takes to find the best of 200 modules by trying each alone, beside one run of the published loop.

    python -m benchmarks.screening [--modules 200] [--evaluations 3] [--precision auto] [--out FOLDER]

A T5 of flan-t5-large's dimensions with random weights, modules of rank 16 on q and v (20 files, each taken
as often as it needs), five examples of about 107 tokens, one thread. Screening is run whole, in the
precision that --precision auto takes here. Of the published loop, in fp32 as it is, loading 20 modules and
--evaluations evaluations are measured; a run is 40 of them.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.compose_speed import N_MODULES, Ours, SpeedInputs, make_world, reference_side, timed
from benchmarks.machine import machine
from benchmarks.reference import Reference
from composer.core.model.scorer import FewShotScorer
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.selection.screening import Screening

RESULTS = Path(__file__).resolve().parent / "results"
RUN_EVALUATIONS, WANTED = 40, 20


def main(argv: list[str] | None = None) -> None:
    arguments = read_arguments(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch), "tiny" if arguments.small else "L")
        row = {"schema": 2, "machine": machine(), **measured(world, arguments)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "screening.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=1))


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=3)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--small", action="store_true", help="a tiny base, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def measured(world: SpeedInputs, arguments: argparse.Namespace) -> dict[str, Any]:
    ours = Ours.load(world, arguments.precision)
    model, batches = reference_side(world, ours)
    loading, reference = timed(lambda: Reference(model, world.modules))
    weights = [0.1] * N_MODULES
    scores = [timed(lambda: reference.score(weights, batches))[0] for _ in range(arguments.evaluations)]
    read = [read_module(folder, folder.name) for folder in world.modules]
    stack = stack_modules([read[i % len(read)] for i in range(arguments.modules)])
    scorer = FewShotScorer(ours.scorer.base, ours.scorer.batch)
    screening = Screening(
        scorer,
        stack,
        contexts=[""] * len(stack),
        modules=[str(i) for i in range(len(stack))],
        examples=scorer.batch.examples,
        known={},
        tell=lambda event: None,
    )
    screened_s, _ = timed(lambda: screening.losses(range(len(stack)), WANTED))
    run_s = loading + statistics.median(scores) * RUN_EVALUATIONS
    return {
        "parameters": model.num_parameters(),
        "precision": ours.scorer.base.precision,
        "modules": len(stack),
        "candidates_scored": scorer.candidates_scored,
        "screening_s": round(screened_s, 1),
        "reference_loading_s": round(loading, 2),
        "reference_evaluation_s": [round(score, 2) for score in scores],
        "reference_run_s": round(run_s, 1),
        "ratio": round(screened_s / run_s, 3),
    }


if __name__ == "__main__":
    main()
