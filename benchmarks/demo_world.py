"""How often composed adapters answer the demo world's unseen tasks correctly.

    python -m benchmarks.demo_world [--workers 2] [--variants exact lorahub] [--draws 3] [--out FOLDER]

Every task, every draw of five examples, every variant: one whole composition each, by the
function behind the site and the command line, scored on the task's held-out examples by the
adapter that was written, as peft loads it. Nothing is tuned on those examples.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "demo" / "bundle"
RESULTS = ROOT / "benchmarks" / "results"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "exact": {"method": "exact"},
    "exact, adam": {"method": "exact", "search": "adam"},
    "exact, greedy": {"method": "exact", "search": "greedy"},
    "lorahub": {"method": "lorahub"},
}
BASELINES = {
    "zero_shot": "base alone",
    "best_single": "best single",
    "uniform": "uniform",
    "in_context": "in context",
    "lora_on_shots": "LoRA on the 5",
}
KINDS = {
    "composable": "Composable tasks: every skill they need has a module",
    "new_knowledge": "Tasks that need knowledge only one module has",
    "negative": "Controls whose skill no module has",
}


@dataclass(frozen=True)
class Row:
    """One composition: which, and its held-out exact match in percent by column."""

    task: str
    kind: str
    draw: int
    variant: str
    exact_match_percent: Mapping[str, float]
    few_shot_loss_nats: float
    verdict: str
    seconds: float  # on the clock; worth reading only if the machine had nothing else to do
    weights: Mapping[str, float]


def main() -> None:
    asked = read_arguments()
    bundle = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    orders = [
        (bundle, task, draw, variant)
        for task in bundle["tasks"]
        if not asked.tasks or task["name"] in asked.tasks
        for draw in range(asked.draws)
        for variant in asked.variants
    ]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers, which start afresh
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=spawn) as pool:
        rows = []
        for row in pool.map(compose, orders):
            rows.append(row)
            print(f"{len(rows)}/{len(orders)} {row.task} {row.draw} {row.variant} {row.exact_match_percent}")
    write_results(asked.out, rows, asked.variants)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--tasks", nargs="+", help="names of demo tasks; all if left out")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def compose(order: tuple[dict[str, Any], dict[str, Any], int, str]) -> Row:
    """One composition in this process; the baselines are measured along with the first variant."""
    from composer.core.job import run

    bundle, task, draw, variant = order
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(folder, bundle, task, draw, VARIANTS[variant])
        run(folder, lambda event: None)
        report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    return Row(
        task=task["name"],
        kind=task["kind"],
        draw=draw,
        variant=variant,
        exact_match_percent={b["key"]: b["held_out_exact_match_percent"] for b in report["baselines"]},
        few_shot_loss_nats=report["few_shot_loss_nats"],
        verdict=report["verdict"]["decision"],
        seconds=sum(report["seconds"].values()),
        weights={m["name"]: round(m["weight"], 3) for m in report["modules"] if abs(m["weight"]) > 0.005},
    )


def write_job(
    folder: Path, bundle: Mapping[str, Any], task: Mapping[str, Any], draw: int, asked: Mapping[str, Any]
) -> None:
    modules = [
        {"name": module["name"], "folder": str(BUNDLE / "modules" / module["name"])}
        for module in bundle["modules"]
    ]
    base = {"name": bundle["base"], "folder": str(BUNDLE / "base")}
    (folder / "job.json").write_text(
        json.dumps({**asked, "base": base, "modules": modules}), encoding="utf-8"
    )
    shutil.copyfile(BUNDLE / "tasks" / task["name"] / f"shots-{draw}.jsonl", folder / "examples.jsonl")
    shutil.copyfile(BUNDLE / "tasks" / task["name"] / "heldout.jsonl", folder / "held_out.jsonl")


# --- the table ----------------------------------------------------------------


def write_results(out: Path, rows: Sequence[Row], variants: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content = {"schema": 1, "machine": machine(), "rows": [asdict(row) for row in rows]}
    (out / "demo_world.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "demo_world.md").write_text(as_markdown(rows, variants), encoding="utf-8")


def as_markdown(rows: Sequence[Row], variants: Sequence[str]) -> str:
    columns = [*BASELINES.values(), *variants]
    lines = [
        "# Held-out exact match on the demo world, in percent",
        "",
        "Strict exact match, greedy answers, five examples a draw; mean over the draws, and in brackets",
        "the lowest and the highest draw. Made by `python -m benchmarks.demo_world`.",
        "",
        f"Machine: {machine()}.",
        "",
    ]
    for kind, title in KINDS.items():
        of_kind = [row for row in rows if row.kind == kind]
        if not of_kind:
            continue
        lines += [
            f"## {title}",
            "",
            f"| task | {' | '.join(columns)} |",
            f"| --- |{' ---: |' * len(columns)}",
        ]
        for task in dict.fromkeys(row.task for row in of_kind):
            lines.append(table_line(task, columns, [row for row in of_kind if row.task == task]))
        lines += [table_line("**mean**", columns, of_kind, spread=False), ""]
    lines += [
        "## Verdicts",
        "",
        "True gain: held-out exact match of the composition minus the best of the baselines. False use:",
        "the verdict is `use` and there is none. Missed: it is another, and the gain is 10 points or more.",
        "",
        "| variant | runs | `use` | false use | missed |",
        "| --- |" + " ---: |" * 4,
        *(variant_line(variant, rows) for variant in variants),
    ]
    return "\n".join(lines) + "\n"


def table_line(name: str, columns: Sequence[str], rows: Sequence[Row], *, spread: bool = True) -> str:
    return f"| {name} | {' | '.join(cell(values_of(column, rows), spread=spread) for column in columns)} |"


def values_of(column: str, rows: Sequence[Row]) -> list[float]:
    """Exact match of a baseline, taken from the first variant's runs, or of a variant."""
    for key, label in BASELINES.items():
        if label == column:
            first = rows[0].variant
            return [row.exact_match_percent[key] for row in rows if row.variant == first]
    return [row.exact_match_percent["composed"] for row in rows if row.variant == column]


def cell(values: Sequence[float], *, spread: bool) -> str:
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ({min(values):.0f}-{max(values):.0f})" if spread else f"**{mean}**"


def variant_line(variant: str, rows: Iterable[Row]) -> str:
    own = [row for row in rows if row.variant == variant]
    used = [row for row in own if row.verdict == "use"]
    false_use = sum(true_gain(row) <= 0 for row in used)
    missed = sum(true_gain(row) >= 10 for row in own if row.verdict != "use")
    counts = (len(own), len(used), false_use, missed)
    return f"| {variant} | {' | '.join(map(str, counts))} |"


def true_gain(row: Row) -> float:
    """Points of exact match that composing brought over the best baseline."""
    others = [percent for key, percent in row.exact_match_percent.items() if key != "composed"]
    return row.exact_match_percent["composed"] - max(percent for percent in others if percent is not None)


def machine() -> str:
    """The processor, how many of them, and what computed."""
    import torch
    import transformers

    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    name = names[0] if names else platform.processor() or platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores, one thread a composition; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
