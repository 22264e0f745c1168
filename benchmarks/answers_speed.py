"""How much faster held-out examples are answered when one forward pass decides what is right.

    python -m benchmarks.answers_speed [--worlds small english] [--base FOLDER] [--held-out 50] [--out FOLDER]

One composition with its usual comparison on one task of each world. Each time held-out examples are
answered there, they are answered twice, in turn: every answer generated, each prompt read whole, and by
`answer_known`. Both must be right on the same examples. The seconds are those that the process computed,
on one thread. The base of the English world is made by `python -m demo.english.base`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.machine import machine
from benchmarks.unseen import write_job
from composer.core import job
from composer.core.evaluation import baselines
from composer.core.job import CompositionRun
from composer.core.methods.base import Adapters
from composer.core.model import base_model
from composer.core.model.known_answers import KnownQuestions, answer_known
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import read_job_spec
from composer.core.spec.metrics import is_exact_match
from demo import BUNDLE
from demo.english import BUNDLE as ENGLISH_BUNDLE
from demo.english.base import default_folder

RESULTS = Path(__file__).resolve().parent / "results"
BUDGET = 40  # scored candidates: the search is not what is measured


@dataclass(frozen=True)
class World:
    """One task and the modules that take part."""

    bundle: Path
    task: str
    modules: tuple[str, ...]
    options: dict[str, Any]


WORLDS = {
    "small": World(BUNDLE, "animal-spanish", ("animal", "spanish", "fruit", "plural", "shout", "cloth"), {}),
    "english": World(
        ENGLISH_BUNDLE,
        "en-ing-bold",
        ("en-ing", "en-bold", "en-past", "en-quotes"),
        {"template": "chat", "max_new_tokens": 24},
    ),
}


@dataclass
class TwoWays:
    """Answers both ways and notes the seconds of each, call by call."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def answer(
        self,
        questions: KnownQuestions,
        max_new_tokens: int,
        adapters: Adapters,
        *,
        n_shown: int = 0,
        wrapped: Any = None,
    ) -> list[str]:
        """Answer as `answer_known` does."""

        def generate() -> list[str]:
            with patch.object(base_model, "common_beginning", return_value=0):  # read for each prompt again
                (answers,) = questions.base.answers(
                    questions.prompts, max_new_tokens, adapters, end=questions.end, wrapped=wrapped
                )
            return answers

        def decide() -> list[str]:
            return answer_known(questions, max_new_tokens, adapters, n_shown=n_shown, wrapped=wrapped)

        generated_s, whole = timed(generate)
        decided_s, found = timed(decide)
        right = n_right(whole, questions.examples)
        assert n_right(found, questions.examples) == right
        row = {"n_right": right, "n_shown": n_shown, "generated_s": generated_s, "decided_s": decided_s}
        self.rows.append(row)
        print(row, flush=True)
        return found


def timed(call: Callable[[], list[str]]) -> tuple[float, list[str]]:
    started = time.process_time()
    result = call()
    return round(time.process_time() - started, 3), result


def n_right(answers: Sequence[str], examples: Sequence[Example]) -> int:
    return sum(is_exact_match(answer, own.output) for answer, own in zip(answers, examples, strict=True))


def measured(world: World, base: Path, held_out: int) -> dict[str, Any]:
    """Compose on the world's task and answer its held-out examples both ways."""
    task = world.bundle / "tasks" / world.task
    both = TwoWays()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(
            folder,
            {"method": "exact", "baselines": "always", "budget": BUDGET, **world.options},
            base={"name": base.name, "folder": str(base)},
            bundle=world.bundle,
            modules=world.modules,
            examples=read_examples(task / "shots-0.jsonl", 100),
            held_out=read_examples(task / "heldout.jsonl", 10_000)[:held_out],
        )
        run = CompositionRun(read_job_spec(folder), lambda event: None)
        with (
            patch.object(baselines, "answer_known", both.answer),
            patch.object(job, "answer_known", both.answer),
        ):
            run.make(folder / "out")
    sums = {way: sum(row[way] for row in both.rows) for way in ("generated_s", "decided_s")}
    return {
        "task": world.task,
        "held_out": held_out,
        "ratio": round(sums["generated_s"] / sums["decided_s"], 2),
        **{way: round(seconds, 2) for way, seconds in sums.items()},
        "calls": both.rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--base", type=Path, default=default_folder(), help="the English world's base")
    parser.add_argument("--held-out", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    worlds = {
        name: measured(WORLDS[name], asked.base if name == "english" else BUNDLE / "base", asked.held_out)
        for name in asked.worlds
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    content = {"schema": 1, "machine": machine(), "worlds": worlds}
    (asked.out / "answers_speed.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, row in worlds.items():
        print(f"{name}: {row['generated_s']} s generated, {row['decided_s']} s decided: {row['ratio']} times")


if __name__ == "__main__":
    main()
