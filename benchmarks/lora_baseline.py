"""The LoRA that a composition is compared with: as it is trained now, and as it was before.

    nice python -m benchmarks.lora_baseline [--base FOLDER] [--out FOLDER]

Before: 40 steps of Adam at 0.005, falling to zero, whatever the base. Now: the learning rate and the
steps that left-out examples choose (composer.core.evaluation.trained_loras). Both have the same rank and
layers, the same five shots and the same start.

Without --base: eight unseen tasks of the demo world, one draw each, up to 200 held-out examples. Each
is composed, too, so that the tuned composition stands beside the composition. With --base: three tasks of
English, below, on a decoder-only model in FOLDER; 30 held-out examples each, nothing composed. A result
file keeps what the other call wrote.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.machine import machine
from benchmarks.unseen import SHOTS, TASKS_BY_NAME, draw_examples, modules_without, write_job
from demo.grammar import DemoExample

RESULTS = Path(__file__).resolve().parent / "results"
DRAW = 80  # none of those that the settings were looked at on, nor those of compose_quality
TASKS = (
    "fruit-upper",
    "body-answer",
    "cloth-french",
    "plural-dots",
    "french-quotes",
    "body-plural-shout",
    "partner-quotes",
    "place-last",
)
HELD_OUT = 200
STEPS_BEFORE, RATE_BEFORE = 40, 5e-3
BUDGET = 3000  # of the default search
ENGLISH_HELD_OUT = 30
TEMPLATE = "{input}\n"
TARGETS = ("q_proj", "v_proj")
RANK = 8

PAST = """
walk walked, jump jumped, play played, open opened, call called, help helped, clean cleaned, watch
watched, cook cooked, paint painted, listen listened, talk talked, wait waited, start started, finish
finished, laugh laughed, smile smiled, push pushed, pull pulled, climb climbed, answer answered, visit
visited, need needed, want wanted, ask asked, work worked, look looked, turn turned, follow followed,
learn learned, pass passed, reach reached, remain remained, return returned, show showed
"""
PLURAL = """
cat cats, dog dogs, book books, car cars, tree trees, house houses, table tables, chair chairs, river
rivers, city cities, baby babies, box boxes, dish dishes, bus buses, lamp lamps, door doors, window
windows, street streets, garden gardens, flower flowers, bird birds, horse horses, cow cows, apple
apples, lemon lemons, berry berries, party parties, story stories, glass glasses, cup cups, spoon
spoons, fork forks, plate plates, shoe shoes, bridge bridges
"""
OPPOSITE = """
hot cold, big small, up down, left right, day night, open closed, fast slow, old new, rich poor, happy
sad, light dark, wet dry, hard soft, high low, long short, strong weak, early late, full empty, clean
dirty, near far, true false, good bad, thick thin, wide narrow, deep shallow, loud quiet, rough smooth,
sweet bitter, first last, love hate, win lose, buy sell, start stop, laugh cry, inside outside
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, help="a decoder-only model; the demo world if left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
    path = asked.out / "lora_baseline.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    name = "demo" if asked.base is None else "english"
    rows = []
    made = demo_rows() if asked.base is None else english_rows(asked.base)
    for row in made:
        rows.append(row)
        print(json.dumps(row), flush=True)
        content[name] = {"machine": machine(), "rows": rows}  # row by row, so that a stopped run leaves some
        asked.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (asked.out / "lora_baseline.md").write_text(as_markdown(content), encoding="utf-8")


def demo_rows() -> Any:
    """The demo world's tasks: the LoRA before and now, and the composition before and after tuning."""
    from composer.core.job import CompositionRun
    from composer.core.spec.job_spec import read_job_spec

    for task in TASKS:
        draw = draw_examples(TASKS_BY_NAME[task].combination, DRAW, verdict=HELD_OUT, truth=0)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_job(
                folder,
                {"method": "auto"},
                modules=modules_without(None),
                examples=draw.shots,
                held_out=draw.verdict,
            )
            run = CompositionRun(read_job_spec(folder), lambda event: None)
            run.make(folder / "out")
            stack = run.stack
            before = trained_before(run.scorer, stack.layers, stack.usual_rank, run.job.seed)
            yield {
                "task": task,
                "n": len(draw.verdict),
                "before": measured(run.scorer.base, before, draw.verdict),
                **{
                    key: shown(run.rows[row])
                    for key, row in (("now", "lora_on_shots"), ("composed", "composed"), ("tuned", "tuned"))
                },
                "seconds": run.seconds,
                "verdict": run.verdict.decision,
            }


def english_rows(folder: Path) -> Any:
    """Tasks of English on a real decoder-only model: the LoRA before and now."""
    import torch

    from composer.core.evaluation.baselines import trained_detail
    from composer.core.evaluation.trained_loras import new_loras, train_on_examples
    from composer.core.methods.base import as_adapters
    from composer.core.model.base_model import FrozenBaseModel
    from composer.core.model.scorer import FewShotScorer
    from composer.core.search.folds import fold_masks
    from composer.core.spec.examples import Example
    from composer.core.spec.training import FOLDS, plan_lora, steps_on_all

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    base = FrozenBaseModel.load(folder, TEMPLATE, precision="auto")
    layers = [layer for path, layer in base.linear_layers().items() if path.split(".")[-1] in TARGETS]
    base.hook(layer.path for layer in layers)
    for task, pairs in english_tasks().items():
        shots, held_out = pairs[:SHOTS], pairs[SHOTS : SHOTS + ENGLISH_HELD_OUT]
        scorer = FewShotScorer(base, base.encode([Example(*pair) for pair in shots]))
        before = trained_before(scorer, layers, RANK, DRAW)
        plan = plan_lora(BUDGET, FOLDS, base.n_parameters)
        started = time.process_time()
        made = train_on_examples(
            scorer,
            plan,
            fold_masks(SHOTS, FOLDS),
            lambda for_folds: new_loras(
                layers,
                rank=RANK,
                scaling=2.0,
                seed=DRAW,
                n_loras=FOLDS if for_folds else 1,
                device=base.device,
            ),
            first=1,
            steps_on_all=partial(steps_on_all, FOLDS),
        )
        yield {
            "task": task,
            "n": len(held_out),
            "before": measured(base, before, held_out),
            "now": measured(base, as_adapters(made.lora), held_out)
            | {
                "detail": trained_detail(made, plan),
                "gradient_steps": made.gradient_steps,
                "cpu_seconds": round(time.process_time() - started, 1),
            },
        }


def english_tasks() -> dict[str, list[DemoExample]]:
    """Pairs of each task in an order of its own."""
    texts = {"past tense in quotes": PAST, "plural in quotes": PLURAL, "opposite": OPPOSITE}
    tasks = {}
    for task, text in texts.items():
        pairs = [pair.split() for pair in text.replace("\n", " ").split(",")]
        Random(task).shuffle(pairs)
        form = '"{}"' if "quotes" in task else "{}"
        tasks[task] = [DemoExample(word, form.format(answer)) for word, answer in pairs]
    return tasks


def trained_before(scorer: Any, layers: Sequence[Any], rank: int, seed: int) -> Any:
    """The candidate of the earlier baseline: 40 steps of Adam at a rate that falls linearly to zero."""
    import torch

    from composer.core.evaluation.trained_loras import new_loras
    from composer.core.model.gradient import nats_and_gradient

    start = new_loras(layers, rank=rank, scaling=2.0, seed=seed, n_loras=1, device=scorer.base.device)
    factors = {path: (A.clone(), B.clone()) for path, (A, B) in start.factors.items()}
    trained = [factor for pair in factors.values() for factor in pair]

    def candidates(rows: Sequence[Any]) -> Any:
        return start.candidates(dict(zip(factors, zip(rows[::2], rows[1::2], strict=True), strict=True)))

    adam = torch.optim.Adam(trained, lr=RATE_BEFORE)
    for step in range(STEPS_BEFORE):
        adam.param_groups[0]["lr"] = RATE_BEFORE * (1 - step / STEPS_BEFORE)
        everything = torch.ones(1, len(scorer.batch))
        _, gradients = nats_and_gradient(scorer.base, scorer.batch, trained, candidates, everything)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for factor, gradient in zip(trained, gradients, strict=True):
            factor.grad = gradient / norm.clamp(min=1.0)
        adam.step()
    return start.candidates(factors)


def measured(base: Any, adapters: Any, held_out: Sequence[DemoExample]) -> dict[str, Any]:
    """Exact match in percent, and how many different answers there are."""
    from composer.core.spec.examples import Example
    from composer.core.spec.metrics import accuracy, longest_useful_answer

    examples = [Example(*row) for row in held_out]
    prompts = [base.prompt(example.input) for example in examples]
    (answers,) = base.answers(prompts, longest_useful_answer(examples, 256), adapters)
    return {
        "exact_match_percent": round(accuracy(answers, examples).percent, 1),
        "distinct_answers": len(set(answers)),
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """What the table needs of a row of the report."""
    return {
        "exact_match_percent": row["held_out_exact_match_percent"],
        "left_out_loss_nats": row["left_out_loss_nats"],
        "detail": row["detail"],
        "gradient_steps": row["cost"]["gradient_steps"],
        "seconds": row["cost"]["seconds"],
    }


def as_markdown(content: dict[str, Any]) -> str:
    """Both tables, as far as they were made."""
    lines = [
        "# The trained LoRA, before and now",
        "",
        "Made by `python -m benchmarks.lora_baseline`; held-out exact match in percent, greedy answers.",
    ]
    if "demo" in content:
        rows = content["demo"]["rows"]
        lines += [
            "",
            "## The demo world (T5, 1.1 M parameters)",
            "",
            f"Machine: {content['demo']['machine']}.",
            "",
        ]
        lines += ["| task | n | LoRA before | LoRA now | composition | tuned | how the LoRA was trained |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
        for row in rows:
            figures = [
                percent(row[key]["exact_match_percent"]) for key in ("before", "now", "composed", "tuned")
            ]
            lines.append(f"| {row['task']} | {row['n']} | {' | '.join(figures)} | {row['now']['detail']} |")
        means = [mean(rows, key) for key in ("before", "now", "composed", "tuned")]
        lines.append(f"| **mean** | | {' | '.join(means)} | |")
        lines += [
            "",
            "A dash: no step of tuning lowered the left-out loss; the mean takes the composition there.",
        ]
    if "english" in content:
        lines += [
            "",
            "## English (a decoder-only base)",
            "",
            f"Machine: {content['english']['machine']}.",
            "",
        ]
        lines += ["| task | n | before | now | different answers before | now | how it was trained |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
        for row in content["english"]["rows"]:
            pair = [row["before"], row["now"]]
            figures = [percent(one["exact_match_percent"]) for one in pair]
            figures += [str(one["distinct_answers"]) for one in pair]
            lines.append(f"| {row['task']} | {row['n']} | {' | '.join(figures)} | {row['now']['detail']} |")
    return "\n".join(lines) + "\n"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    own = [row[key]["exact_match_percent"] for row in rows]
    values = [
        row["composed"]["exact_match_percent"] if value is None else value
        for value, row in zip(own, rows, strict=True)
    ]
    return f"**{sum(values) / len(values):.1f}**"


if __name__ == "__main__":
    main()
