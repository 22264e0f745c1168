"""The demo world's unseen tasks with as many examples as a measurement wants.

The bundle has three draws of five shots and a hundred held-out examples of each task. Here they are
drawn anew, under a seed of their own, so that nothing measured here was seen while anything was tuned.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from composer.core.spec.examples import Example
from demo.catalog import MODULES, TASKS, Task
from demo.english.words import EnglishExample
from demo.grammar import Combination, DemoExample, hub_example, hub_examples
from demo.words import WORDS

BUNDLE = Path(__file__).resolve().parents[1] / "demo" / "bundle"
SMALL_BASE: Mapping[str, str] = {"name": "demo/tiny-t5", "folder": str(BUNDLE / "base")}
SHOTS = 5
Pair = DemoExample | EnglishExample | Example
TASKS_BY_NAME: Mapping[str, Task] = {task.combination.name: task for task in TASKS}


@dataclass(frozen=True)
class Draw:
    """Five shots; examples a verdict may be decided on; others that tell whether it was right."""

    shots: Sequence[DemoExample]
    verdict: Sequence[DemoExample]
    truth: Sequence[DemoExample]


def draw_examples(combination: Combination, number: int, *, verdict: int, truth: int) -> Draw:
    """No input occurs twice. A task on single words has only as many examples as there are words left."""
    if combination.takes_one_word:
        words = list(WORDS)
        Random(f"quality {combination.name} {number}").shuffle(words)
        examples = [hub_example(combination, [word]) for word in words]
        left = len(examples) - SHOTS
        verdict = min(verdict, left // 2) if truth else left
    else:
        stream = hub_examples(combination, f"quality {number}")
        unique: dict[str, DemoExample] = {}
        while len(unique) < SHOTS + verdict + truth:
            example = next(stream)
            unique.setdefault(example.input, example)
        examples = list(unique.values())
    rows = iter(examples)
    return Draw(*(tuple(islice(rows, n)) for n in (SHOTS, verdict, truth)))


def modules_without(skill: str | None) -> list[str]:
    """Names of the library's modules; without those that teach `skill`, alone or with another."""
    return [module.name for module in MODULES if skill is None or skill not in module.skills]


def write_job(
    folder: Path,
    asked: Mapping[str, Any],
    *,
    modules: Sequence[str],
    examples: Sequence[Pair],
    held_out: Sequence[Pair],
    base: Mapping[str, str] = SMALL_BASE,
    bundle: Path = BUNDLE,
) -> None:
    """A job folder that composer.core.job reads, with these modules of the bundle."""
    job = {
        **asked,
        "base": base,
        "modules": [{"name": name, "folder": str(bundle / "modules" / name)} for name in modules],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    write_examples(folder / "examples.jsonl", examples)
    if held_out:
        write_examples(folder / "held_out.jsonl", held_out)


def write_examples(path: Path, examples: Sequence[Pair]) -> None:
    lines = [json.dumps({"input": own.input, "output": own.output}) for own in examples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
