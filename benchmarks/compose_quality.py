"""How good the default is, how soon, and how far its verdict can be trusted, on the demo world.

    python -m benchmarks.compose_quality [--parts quality verdict precision anytime] [--out FOLDER]
    python -m benchmarks.compose_quality --world english [--tasks NAME ...] [--draws N] [--base FOLDER]

quality: every unseen task, five draws of five shots, 200 held-out examples (or as many as the task
    has): the default, the published method, one plain gradient fit, and every baseline.
verdict: the composable tasks, with every module and again with one needed skill withheld from the
    library. The verdict is decided on some examples and judged on others that it never saw.
precision: the default with products in fp32 and in bf16, on the same draws.
anytime: the default stopped after so many seconds, and the published loop's own time. Needs a quiet
    machine; the others do not.

english: the default and its baselines on some tasks of the English library, once each. The result file
    is written row by row; a second run measures what is missing.

Every composition is a whole one, by the function behind the site and the command line, scored by the
adapter that was written, as peft loads it. Nothing is tuned on these examples.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import english, quality_report
from benchmarks.machine import machine
from benchmarks.unseen import BUNDLE, TASKS_BY_NAME, Draw, draw_examples, modules_without, write_job

RESULTS = Path(__file__).resolve().parent / "results"
HELD_OUT = 200  # examples of a task, as far as it has them
VERDICT_EXAMPLES = 100
DRAWS = 5
PRECISION_DRAWS = 2
VERDICT_DRAWS = 7  # times 16 composable tasks: over a hundred runs of each kind
MOMENTS_S = (0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 60.0)  # the last is after the end of every search

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "auto": {"method": "auto", "baselines": "thorough"},
    "adam": {"method": "exact", "search": "adam", "baselines": "none"},
}
PRECISIONS = ("fp32", "bf16")
COMPOSABLE = [name for name, task in TASKS_BY_NAME.items() if task.kind == "composable"]


@dataclass(frozen=True)
class Order:
    """One composition to be made."""

    part: str
    task: str
    draw: int
    variant: str = "auto"
    withheld: str | None = None
    stop_s: float | None = None


def main() -> None:
    asked = read_arguments()
    if asked.world == "english":
        english.measure(asked)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers, which start afresh
    path = asked.out / "compose_quality.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"schema": 1}
    for part in asked.parts:
        specs, made_by = PARTS[part]
        # seconds are measured with nothing beside them
        rows = carried_out(list(specs(asked)), made_by, 1 if part == "anytime" else asked.workers)
        content[part] = {"machine": machine(), "rows": rows}
        asked.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    quality_report.write(asked.out, content)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=("small", "english"), default="small")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="default: all; in English, six")
    parser.add_argument("--draws", type=int, help=f"default: {DRAWS}; in English, {english.USUAL_DRAWS}")
    parser.add_argument("--held-out", type=int, help=f"in English; default: {english.HELD_OUT}")
    parser.add_argument("--base", type=Path, help="in English: the base model; default: under HUB_DATA")
    parser.add_argument("--verdict-draws", type=int, default=VERDICT_DRAWS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.world == "small":
        asked.tasks = asked.tasks or list(TASKS_BY_NAME)
        asked.draws = asked.draws or DRAWS
        if unknown := set(asked.tasks) - set(TASKS_BY_NAME):
            parser.error(f"there is no task {', '.join(sorted(unknown))}")
    return asked


def carried_out(
    specs: Sequence[Order], made_by: Callable[[Order], dict[str, Any]], workers: int
) -> list[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for row in pool.map(made_by, specs):
            rows.append(row)
            print(f"{len(rows)}/{len(specs)} {json.dumps(row)[:300]}", flush=True)
    return rows


# --- what is asked ------------------------------------------------------------


def quality_orders(asked: argparse.Namespace) -> Iterator[Order]:
    for task in asked.tasks:
        for draw in range(asked.draws):
            for variant in VARIANTS:
                yield Order("quality", task, draw, variant)


def verdict_orders(asked: argparse.Namespace) -> Iterator[Order]:
    for task in asked.tasks:
        skills = TASKS_BY_NAME[task].combination.skills
        for draw in range(asked.verdict_draws if task in COMPOSABLE else 0):
            yield Order("verdict", task, draw)
            yield Order("verdict", task, draw, withheld=skills[draw % len(skills)])


def precision_orders(asked: argparse.Namespace) -> Iterator[Order]:
    for task in asked.tasks:
        for draw in range(min(asked.draws, PRECISION_DRAWS)):
            yield from (Order("precision", task, draw, variant=precision) for precision in PRECISIONS)


def anytime_orders(asked: argparse.Namespace) -> Iterator[Order]:
    for task in asked.tasks:
        if task in COMPOSABLE:
            yield from (Order("anytime", task, 0, stop_s=moment) for moment in MOMENTS_S)
            yield Order("anytime", task, 0, variant="reference")


# --- how it is made -----------------------------------------------------------


def quality_row(spec: Order) -> dict[str, Any]:
    """Exact match in percent of the composition and every baseline, with what the report says."""
    draw = draw_examples(TASKS_BY_NAME[spec.task].combination, spec.draw, verdict=HELD_OUT, truth=0)
    with composed(spec, draw, draw.verdict) as composition:
        rows = composition.rows
    return {
        **fields_of_order(spec),
        "n": len(draw.verdict),
        "exact_match_percent": {key: row["held_out_exact_match_percent"] for key, row in rows.items()},
        "few_shot_loss_nats": composition.composed.few_shot_loss_nats,
        "verdict": composition.verdict.decision,
        "optimizer": composition.found.optimizer,
        "weights": {
            name: round(weight, 3)
            for name, weight in composition.weights_by_name.items()
            if abs(weight) > 0.005
        },
    }


def verdict_row(spec: Order) -> dict[str, Any]:
    """The verdict from some held-out examples, what one from none would rest on, and the gain on others."""
    from composer.core.evaluation.verdict import verdict_on_held_out
    from composer.core.spec.metrics import accuracy

    draw = draw_examples(
        TASKS_BY_NAME[spec.task].combination, spec.draw, verdict=VERDICT_EXAMPLES, truth=HELD_OUT
    )
    seen = len(draw.verdict)
    with composed(spec, draw, (*draw.verdict, *draw.truth)) as composition:
        rows = (*composition.baselines, composition.composed)
        answers = {row.key: row.answers for row in rows if row.answers is not None}  # it may stay untuned
        examples = composition.held_out
        single = composition.stack.names[int(composition.alone.argmin())]
        decided = verdict_on_held_out({k: a[:seen] for k, a in answers.items()}, examples[:seen], single)
        left_out = composition.left_out_by_key()
    percent = {key: accuracy(a[seen:], examples[seen:]).percent for key, a in answers.items()}
    return {
        **fields_of_order(spec),
        "n": len(draw.truth),
        "exact_match_percent": {key: round(value, 2) for key, value in percent.items()},
        "decision": {"held_out": decided.decision},
        "left_out": {
            "label_tokens": list(left_out["composed"].label_tokens),
            "nats": {key: [round(x, 4) for x in one.nats] for key, one in left_out.items()},
        },
    }


def anytime_row(spec: Order) -> dict[str, Any]:
    """Exact match of what was there after so many seconds of screening and search."""
    draw = draw_examples(TASKS_BY_NAME[spec.task].combination, spec.draw, verdict=HELD_OUT, truth=0)
    if spec.variant == "reference":
        return {**fields_of_order(spec), "seconds": reference_seconds(draw)}
    with composed(spec, draw, draw.verdict) as composition:
        row = composition.rows["composed"]
    return {
        **fields_of_order(spec),
        "seconds": composition.seconds["screen"] + composition.seconds["search"],
        "exact_match_percent": row["held_out_exact_match_percent"],
        "stopped": composition.found.stopped,
    }


def fields_of_order(spec: Order) -> dict[str, Any]:
    facts = {"kind": TASKS_BY_NAME[spec.task].kind, **asdict(spec)}
    return {key: value for key, value in facts.items() if value is not None and key != "part"}


@contextmanager
def composed(spec: Order, draw: Draw, held_out: Sequence[Any]) -> Iterator[Any]:
    """One composition, made as the command line makes it, with all that it knows of itself."""
    from composer.core.job import CompositionRun
    from composer.core.spec.errors import StopSearch
    from composer.core.spec.job_spec import read_job_spec

    asked = {**VARIANTS["auto" if spec.variant in PRECISIONS else spec.variant]}
    if spec.variant in PRECISIONS:
        asked["precision"] = spec.variant
    if spec.part != "quality":
        asked["baselines"] = "none" if spec.part == "anytime" else "always"
    began: list[float] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "stage" and event["stage"] == "screen":
            began.append(time.monotonic())
        if event["event"] == "step" and spec.stop_s and time.monotonic() - began[0] > spec.stop_s:
            raise StopSearch

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(
            folder, asked, modules=modules_without(spec.withheld), examples=draw.shots, held_out=held_out
        )
        composition = CompositionRun(read_job_spec(folder), on_event)
        composition.make(folder / "out")
        yield composition


def reference_seconds(draw: Draw) -> float:
    """The published loop on the same shots and modules, from modules in memory to weights chosen."""
    from benchmarks.reference import Reference
    from composer.core.model.base_model import FrozenBaseModel
    from composer.core.spec.examples import Example

    reference = Reference.load(BUNDLE / "base", [BUNDLE / "modules" / name for name in modules_without(None)])
    batch = FrozenBaseModel.load(BUNDLE / "base").encode([Example(*shot) for shot in draw.shots])
    inputs = {key: batch.inputs[key] for key in ("input_ids", "attention_mask")}
    started = time.monotonic()
    reference.search([{**inputs, "labels": batch.labels}])
    return time.monotonic() - started


PARTS: Mapping[str, tuple[Callable[..., Iterator[Order]], Callable[[Order], dict[str, Any]]]] = {
    "quality": (quality_orders, quality_row),
    "verdict": (verdict_orders, verdict_row),
    "precision": (precision_orders, quality_row),
    "anytime": (anytime_orders, anytime_row),
}

if __name__ == "__main__":
    main()
