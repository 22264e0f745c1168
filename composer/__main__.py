"""`python -m composer`: compose, evaluate and list methods, without a server or a database.

A base model and a module are a folder here, written as a path (./x, /x), or a Hub's owner/name@revision.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from composer.core import choices
from composer.core.errors import ComposeError, ExamplesError, InvalidJobError
from composer.core.examples import read_examples
from composer.core.request import read_job
from composer.core.sources import Source, base_source, distinct_names, module_source, module_text

BAD_INPUT = 2  # exit status, as argparse's own
INTERRUPTED = 130  # as shells count an end by Ctrl-C
BAR_WIDTH = 30
TEMPLATE_HELP = "the prompt, with {input} in it, or chat for the base model's own"


class OneSentenceParser(argparse.ArgumentParser):
    """Refuses with one sentence, as every other refusal here."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"composer: {message[:1].upper()}{message[1:].rstrip('.')}. Try --help.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    asked = build_parser().parse_args(arguments)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, about each other: nothing that our reader could mend
    try:
        asked.command(asked)
    except ComposeError as refusal:
        print(f"composer: {' '.join(str(refusal).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("composer: stopped; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = OneSentenceParser(prog="python -m composer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_compose(commands.add_parser("compose", help="compose modules into one adapter from a few examples"))
    add_evaluate(commands.add_parser("evaluate", help="score a base model, with or without an adapter"))
    listing = commands.add_parser("methods", help="list methods, searches and selectors")
    listing.set_defaults(command=list_methods)
    return parser


def add_compose(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base", required=True, help="the base model: a folder (./base) or owner/name@revision of a Hub")
    add("--modules", required=True, nargs="+", metavar="M", help="LoRA modules: folders or names of a Hub")
    add("--examples", required=True, type=a_path, help='lines of {"input": …, "output": …}')
    add("--held-out", type=a_path, help="examples that only the report may see")
    add("--method", choices=choices.names(choices.METHODS), default=choices.DEFAULT_METHOD)
    searches = ", ".join(choices.names(choices.SEARCHES))
    add("--search", default="auto", help=f"{searches}, or {choices.NEVERGRAD}NAME for any of nevergrad's")
    add("--objective", choices=choices.names(choices.OBJECTIVES), default="loss")
    add("--select", default="all", help="all, random:K, screen:K or near:K, joined by +")
    add(
        "--budget",
        type=int,
        help=f"candidates to score, a gradient step counts {choices.GRADIENT_STEP_COST}; "
        f"left out, what the method is known to need: {default_budgets()}",
    )
    add(
        "--batch-size",
        type=int,
        help="examples in one mean of lorahub's objective, as released; all if left out",
    )
    add("--seed", type=int, default=choices.DEFAULT_SEED)
    add("--precision", choices=choices.names(choices.PRECISIONS), default="auto")
    add("--rank", type=int, help="make the adapter no larger than this rank, by SVD")
    add("--template", default=choices.DEFAULT_TEMPLATE, help=TEMPLATE_HELP)
    add("--max-new-tokens", type=int, default=choices.DEFAULT_MAX_NEW_TOKENS)
    add("--baselines", choices=choices.names(choices.BASELINES), default="always")
    add("--device", choices=choices.names(choices.DEVICES), default="auto")
    add("--task", default="", metavar="SENTENCE", help="what the task is, in words, for near:K")
    add("--out", required=True, type=a_path, help="folder for the adapter and its report")
    parser.set_defaults(command=compose)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base", required=True, help="the base model: a folder (./base) or owner/name@revision of a Hub")
    add("--adapter", help="a peft adapter: a folder or a Hub's name; the base alone if left out")
    add("--examples", required=True, type=a_path, help='lines of {"input": …, "output": …}')
    add("--template", default=choices.DEFAULT_TEMPLATE, help=TEMPLATE_HELP)
    add("--max-new-tokens", type=int, default=choices.DEFAULT_MAX_NEW_TOKENS)
    parser.set_defaults(command=evaluate)


def a_path(text: str) -> Path:
    """A path that was written; an empty one would mean the folder one stands in."""
    if not text:
        raise argparse.ArgumentTypeError("name a file or a folder, not nothing")
    return Path(text)


def default_budgets() -> str:
    return ", ".join(f"{budget} for {method}" for method, budget in choices.BUDGET_OF_METHOD.items())


# --- the commands -------------------------------------------------------------


def compose(asked: argparse.Namespace) -> None:
    """Make a job folder of what was asked, run it, and move the result to --out."""
    require_examples(asked.examples, choices.SHOTS_LIMIT)
    if asked.held_out is not None:
        require_examples(asked.held_out, choices.HELD_OUT_LIMIT)
    require_writable(asked.out)
    base, modules = base_source(asked.base), [module_source(reference) for reference in asked.modules]
    with tempfile.TemporaryDirectory(prefix="compose-") as scratch:
        folder = Path(scratch)
        write_job(folder, asked, base, modules)
        read_job(folder)
        from composer.core import job  # loads torch, which takes seconds; what is wrong is told before

        job.run(folder, progress_bar() if sys.stderr.isatty() else say_stage)
        asked.out.mkdir(parents=True, exist_ok=True)
        for made in sorted((folder / "out").iterdir()):
            shutil.copyfile(made, asked.out / made.name)
    verdict = json.loads((asked.out / "report.json").read_text(encoding="utf-8"))["verdict"]
    print(verdict["text"])


def evaluate(asked: argparse.Namespace) -> None:
    """Print one JSON object of figures."""
    require_examples(asked.examples, choices.HELD_OUT_LIMIT)
    base = base_source(asked.base)
    adapter = module_source(asked.adapter) if asked.adapter else None
    from composer.core import scoring

    figures = scoring.evaluate_adapter(
        base=base,
        adapter=adapter,
        examples_file=asked.examples,
        template=asked.template,
        max_new_tokens=asked.max_new_tokens,
    )
    print(json.dumps(figures))


def list_methods(_asked: argparse.Namespace) -> None:
    """Everything that can be chosen, with a line and a source each."""
    for title, offered in (
        ("Methods", choices.METHODS),
        ("Searches", (*choices.SEARCHES, choices.ANY_OF_NEVERGRAD)),
        ("Selectors", choices.SELECTORS),
        ("Objectives", choices.OBJECTIVES),
        ("Baselines", choices.BASELINES),
    ):
        print(title)
        for choice in offered:
            print(f"  {choice.name:<15}{choice.line}\n{'':<17}[{choice.source}]")


# --- what they need -----------------------------------------------------------


def require_examples(path: Path, limit: int) -> None:
    """Refuse a file that is not there or holds no examples, by the name that was given for it."""
    if not path.is_file():
        raise InvalidJobError(f"There is no file {path}.")
    try:
        read_examples(path, limit)
    except ExamplesError as refusal:
        raise ExamplesError(f"In {path}: {refusal}") from refusal


def require_writable(out: Path) -> None:
    """Refuse a folder that the result cannot be put into, before the work and not after it."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()  # who may write is a question that only writing answers
    except OSError as error:
        raise InvalidJobError(f"Nothing can be written to {out}.") from error


def write_job(folder: Path, asked: argparse.Namespace, base: Source, modules: Sequence[Source]) -> None:
    """The job folder that `composer.core.job.run` reads."""
    job = {
        "schema": 1,
        "method": asked.method,
        "search": asked.search,
        "objective": asked.objective,
        "select": asked.select,
        "budget": asked.budget,
        "seed": asked.seed,
        "precision": asked.precision,
        "rank": asked.rank,
        "device": asked.device,
        "batch_size": asked.batch_size,
        "sentence": asked.task,
        "template": asked.template,
        "max_new_tokens": asked.max_new_tokens,
        "baselines": asked.baselines,
        "base": {"name": base.name, "folder": str(base.folder), "revision": base.revision},
        "modules": [
            {
                "name": name,
                "folder": str(module.folder),
                "revision": module.revision,
                "text": module_text(module.folder, choices.TEXT_LIMIT),
            }
            for name, module in zip(distinct_names(modules), modules, strict=True)
        ],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    shutil.copyfile(asked.examples, folder / "examples.jsonl")
    if asked.held_out is not None:
        shutil.copyfile(asked.held_out, folder / "held_out.jsonl")


def say_stage(event: dict[str, Any]) -> None:
    """A line for each stage: where no line can be drawn anew, in a log or a pipe."""
    if event["event"] == "stage":
        print(event["text"], file=sys.stderr, flush=True)


def progress_bar() -> Callable[[dict[str, Any]], None]:
    """Draws stages and steps on one line of the terminal."""

    def draw(event: dict[str, Any]) -> None:
        if event["event"] == "stage":
            print(f"\r\033[K{event['text']}", end="", file=sys.stderr, flush=True)
        elif event["event"] == "step":
            filled = BAR_WIDTH * event["step"] // event["budget"]
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            counted = f"{event['step']}/{event['budget']}"
            line = f"[{bar}] {counted}  best loss {event['best_loss']:.3f}"
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif event["event"] == "done":
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    return draw


if __name__ == "__main__":
    sys.exit(main())
