"""Every method on tasks of two skills of the English library: with the two modules, and with all of them.

    python -m benchmarks.methods [--libraries two all] [--tasks NAME ...] [--methods NAME ...]
                                 [--held-out 50] [--base FOLDER] [--workers 2] [--out FOLDER]

two: the setting of LoRA Soups. Exactly the two modules that were trained on one skill of the task each.
all: the library as it is, most of which the task does not need.

Every method fits its weights on the task's first five shots and answers its held-out examples. The
uniform average, the best module alone, examples in the prompt and a LoRA trained on the five shots are
measured along with `auto`. `mixed` is one LoRA trained on the data of both skills, as long as the two
modules together; it never saw the task. Every row is kept as soon as it is measured; a run that was ended
goes on with the next one.

Source: Prabhakar et al., LoRA Soups, arXiv:2410.13025.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

from benchmarks.english import HELD_OUT, MAX_NEW_TOKENS, TASKS_BY_NAME, composed, measured, write
from benchmarks.machine import machine
from demo.english import BASE_NAME
from demo.english.base import default_folder
from demo.english.catalog import MODULES, task_examples

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("en-past-quotes", "en-plural-brackets", "en-kind-json", "en-third-shout")
MIXED = "mixed"
LIBRARIES = {"two": "With the two modules alone", "all": "With all modules of the library"}
METHODS = ("auto", "exact", "cat", "cat-layers", "lorahub", "linear", "ties", "dare_linear", MIXED)
ALONG = ("zero_shot", "best_single", "uniform", "in_context", "lora_on_shots")  # measured with auto
LABELS = {
    "auto": "**auto**",
    "exact": "exact sum",
    "cat": "CAT, shares by layer (learned)",
    "cat-layers": "CAT without the softmax (learned)",
    "lorahub": "LoraHub",
    "linear": "linear, weights by NGOpt",
    "ties": "TIES, weights by NGOpt",
    "dare_linear": "DARE, weights by NGOpt",
    MIXED: "one LoRA on both skills' data",
    "zero_shot": "the base alone",
    "best_single": "the best module alone",
    "uniform": "uniform average",
    "in_context": "examples in the prompt",
    "lora_on_shots": "a LoRA on the five shots",
}


@dataclass(frozen=True)
class MethodOrder:
    """One method on one task, with the two modules or all."""

    library: str
    task: str
    method: str
    base: Path
    held_out: int


def main(words: Sequence[str] | None = None) -> None:
    asked = read_arguments(words)
    path = asked.out / "methods.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    known = {(row["library"], row["task"], row["method"]) for row in rows}
    missing = [
        MethodOrder(library, task, method, asked.base, asked.held_out)
        for library, task, method in product(asked.libraries, asked.tasks, asked.methods)
        if (library, task, method) not in known and (library, method) != ("all", MIXED)
    ]
    asked.out.mkdir(parents=True, exist_ok=True)
    for row in measured(missing, asked.workers, method_row):
        rows.append(row)
        print(json.dumps(row), flush=True)
        write(path, {"schema": 1, "machine": machine(), "rows": rows})
    (asked.out / "methods.md").write_text(as_markdown(rows), encoding="utf-8")


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--tasks", nargs="+", metavar="NAME", default=TASKS, help="of two skills")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--base", type=Path, default=default_folder())
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    for name in asked.tasks:
        if name not in TASKS_BY_NAME or len(TASKS_BY_NAME[name].combination.skills) != 2:
            parser.error(f"{name} is no task of two skills.")
    if not asked.base.is_dir():
        parser.error(f"no base model in {asked.base}. Make it with ./hub demo english, or name it: --base")
    return asked


def method_row(order: MethodOrder) -> dict[str, Any]:
    """Exact match in percent on the task's held-out examples, of the method and what is measured along."""
    found = mixed_percent(order) if order.method == MIXED else composed_percents(order)
    facts = {"library": order.library, "task": order.task, "method": order.method, "n": order.held_out}
    return {**facts, "exact_match_percent": found}


def modules_of(task: str, library: str) -> list[str]:
    """Names of the two modules, one for each of the task's skills, or of all."""
    if library == "all":
        return [module.name for module in MODULES]
    return [f"en-{skill}" for skill in TASKS_BY_NAME[task].combination.skills]


def composed_percents(order: MethodOrder) -> dict[str, float]:
    is_auto = order.method == "auto"
    asked = {"method": order.method, "baselines": "always" if is_auto else "none"}
    modules = modules_of(order.task, order.library)
    rows = composed(order.task, order.base, asked, modules, held_out=order.held_out).rows
    own = {order.method: rows["composed"]}
    along = {key: rows[key] for key in ALONG if is_auto}
    return {key: row["held_out_exact_match_percent"] for key, row in (own | along).items()}


def mixed_percent(order: MethodOrder) -> dict[str, float]:
    """Train one LoRA on the data of both skills, for as many steps as both modules had, and measure it."""
    import torch

    from composer.core.evaluation.scoring import evaluate_adapter
    from composer.core.modules.sources import Source
    from composer.core.spec.examples import Example
    from demo.english.build import FORM_SCHEDULE, WORD_SCHEDULE
    from demo.english.bundle_files import save_module
    from demo.english.train import ChatModel, Schedule, fit, new_module

    torch.set_num_threads(1)
    combination = TASKS_BY_NAME[order.task].combination
    singles = [module for module in MODULES if module.name in modules_of(order.task, "two")]
    base = ChatModel.load(order.base)
    module = new_module(base, seed=1)
    both = list(chain.from_iterable(zip(*(single.examples("train") for single in singles), strict=False)))
    fit(module, base, both, Schedule(steps=WORD_SCHEDULE.steps + FORM_SCHEDULE.steps), seed=1)
    with tempfile.TemporaryDirectory() as scratch:
        save_module(module, singles[0], Path(scratch) / "mixed")
        held_out = task_examples(combination).held_out[: order.held_out]
        figures = evaluate_adapter(
            base=Source(BASE_NAME, order.base),
            adapter=Source("mixed", Path(scratch) / "mixed"),
            examples=[Example(pair.input, pair.output) for pair in held_out],
            template="chat",
            max_new_tokens=MAX_NEW_TOKENS,
        )
    return {MIXED: float(figures["exact_match_percent"])}


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "# Every method on tasks of two skills",
        "",
        "Made by `python -m benchmarks.methods` on the English library: held-out exact match in percent,",
        f"greedy answers, {rows[0]['n']} examples of each task, one draw of five shots.",
        f"Machine: {machine()}.",
    ]
    for library, title in LIBRARIES.items():
        own = [row for row in rows if row["library"] == library]
        if own:
            lines += ["", f"## {title}", "", *table(own)]
    return "\n".join([*lines, ""])


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of one library, the best method first."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    percents: dict[str, dict[str, float]] = {}
    for row in rows:
        for key, percent in row["exact_match_percent"].items():
            percents.setdefault(key, {})[row["task"]] = percent
    lines = [f"| | {' | '.join(tasks)} | mean |", f"| --- |{' ---: |' * (len(tasks) + 1)}"]
    for key in sorted(percents, key=lambda key: -mean_of(percents[key])):
        cells = " | ".join(f"{percents[key][task]:.0f}" if task in percents[key] else "-" for task in tasks)
        lines.append(f"| {LABELS[key]} | {cells} | {mean_of(percents[key]):.1f} |")
    return lines


def mean_of(percents: Mapping[str, float]) -> float:
    return sum(percents.values()) / len(percents)


if __name__ == "__main__":
    main()
