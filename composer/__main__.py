"""`python -m composer`: compose, evaluate and list methods, without a server or a database.

A base model and a module are a folder here, written as a path (./x, /x), or a Hub's owner/name@revision.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from composer.core.modules.sources import (
    Source,
    as_folder,
    base_source,
    distinct_names,
    module_source,
    module_text,
    repository,
)
from composer.core.spec import choices
from composer.core.spec.errors import ComposeError, ExamplesError, InvalidJobError
from composer.core.spec.examples import Example, read_examples, require_disjoint
from composer.core.spec.job_spec import read_job_spec

BAD_INPUT = 2  # exit status, as argparse's own
INTERRUPTED = 130  # as shells count an end by Ctrl-C
BAR_WIDTH = 30
USUAL_COLUMNS = 80  # of a terminal that does not tell
START_OF_LINE = "\r\033[K"  # and nothing left on it
TEMPLATE_HELP = "the prompt, with {input} in it, or chat for the base model's own"


Tell = Callable[[dict[str, Any]], None]  # of one event of a job


class OneSentenceParser(argparse.ArgumentParser):
    """Refuses with one sentence, as every other refusal here."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"composer: {message[:1].upper()}{message[1:].rstrip('.')}. Try --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, about each other: nothing that our reader could mend
    try:
        arguments.command(arguments)
    except ComposeError as refusal:
        say_last(" ".join(str(refusal).split()))
        return BAD_INPUT
    except KeyboardInterrupt as wish:
        say_last(f"stopped; {str(wish) or 'nothing was written'}.")
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
    add("--method", choices=choices.choice_names(choices.METHODS), default=choices.DEFAULT_METHOD)
    searches = ", ".join(choices.choice_names(choices.SEARCHES))
    add("--search", default="auto", help=f"{searches}, or {choices.NEVERGRAD}NAME for any of nevergrad's")
    add("--objective", choices=choices.choice_names(choices.OBJECTIVES), default="loss")
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
    add("--precision", choices=choices.choice_names(choices.PRECISIONS), default="auto")
    add("--rank", type=int, help="make the adapter no larger than this rank, by SVD")
    add("--template", default=choices.DEFAULT_TEMPLATE, help=TEMPLATE_HELP)
    add("--max-new-tokens", type=int, default=choices.DEFAULT_MAX_NEW_TOKENS)
    add("--baselines", choices=choices.choice_names(choices.BASELINES), default="always")
    add("--device", choices=choices.choice_names(choices.DEVICES), default="auto")
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


def compose(arguments: argparse.Namespace) -> None:
    """Make a job folder of what was asked, run it, and move the result to --out."""
    examples = examples_in(arguments.examples, choices.EXAMPLES_LIMIT)
    if arguments.held_out is not None:
        require_disjoint(examples_in(arguments.held_out, choices.HELD_OUT_LIMIT), examples)
    require_writable(arguments.out)
    tell = progress_bar() if sys.stderr.isatty() else say_stage
    with tempfile.TemporaryDirectory(prefix="compose-") as scratch:
        folder = Path(scratch)
        write_job(folder, arguments)
        read_job_spec(folder)  # what is wrong with the options is told before anything is fetched
        base, *modules = fetch_sources(arguments.base, arguments.modules, tell)
        require_apart(arguments.out, [base, *modules])
        write_job(folder, arguments, base, modules)
        run_job(folder, arguments.out, tell)
    verdict = json.loads((arguments.out / "report.json").read_text(encoding="utf-8"))["verdict"]
    print(verdict["text"])


def run_job(folder: Path, out: Path, tell: Tell) -> None:
    """Carry out the job; the adapter is in `out` while the baselines are still measured."""
    from composer.core import job  # loads torch, which takes seconds; what is wrong is told before

    left = ""

    def on_event(event: dict[str, Any]) -> None:
        nonlocal left
        if event["event"] == "adapter":
            hand_out(folder / event["folder"], out)
            left = f"the adapter is in {out}, without a report"
        tell(event)

    try:
        job.run(folder, on_event)
    except KeyboardInterrupt as wish:
        raise KeyboardInterrupt(left) from wish
    hand_out(folder / "out", out)


def evaluate(arguments: argparse.Namespace) -> None:
    """Print one JSON object of figures."""
    examples_in(arguments.examples, choices.HELD_OUT_LIMIT)
    tell = progress_bar() if sys.stderr.isatty() else say_stage
    base, *modules = fetch_sources(
        arguments.base, [] if arguments.adapter is None else [arguments.adapter], tell
    )
    from composer.core.evaluation import scoring

    figures = scoring.evaluate_adapter(
        base=base,
        adapter=modules[0] if modules else None,
        examples_file=arguments.examples,
        template=arguments.template,
        max_new_tokens=arguments.max_new_tokens,
    )
    tell({"event": "done"})
    print(json.dumps(figures))


def list_methods(_arguments: argparse.Namespace) -> None:
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


def examples_in(path: Path, limit: int) -> tuple[Example, ...]:
    """The file's examples; one that is not there or holds none is refused by the name given for it."""
    if not path.is_file():
        raise InvalidJobError(f"There is no file {path}.")
    try:
        return read_examples(path, limit)
    except ExamplesError as refusal:
        raise ExamplesError(f"In {path}: {refusal}") from refusal


def require_writable(out: Path) -> None:
    """Refuse a folder that the result cannot be put into, before the work and not after it."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()  # who may write is a question that only writing answers
    except OSError as error:
        raise InvalidJobError(f"Nothing can be written to {out}.") from error


def fetch_sources(base: str, modules: Sequence[str], tell: Tell) -> list[Source]:
    """The base and the modules, those of a Hub on this machine; each that has to come from one is told."""

    def found(reference: str, source: Callable[[str], Source]) -> Source:
        if as_folder(reference) is None:
            name, _ = repository(reference)
            tell({"event": "stage", "text": f"Fetching {name}"})
        return source(reference)

    big = partial(base_source, shows_progress=sys.stderr.isatty())
    return [found(base, big), *(found(module, module_source) for module in modules)]


def require_apart(out: Path, sources: Sequence[Source]) -> None:
    """Refuse to write the result over what it is made from."""
    for source in sources:
        if out.resolve() == source.folder:
            raise InvalidJobError(f"{source.name} would be written over. Give --out a folder of its own.")


def hand_out(made: Path, out: Path) -> None:
    """Put what is made so far where it was asked for; an earlier result's report does not stay beside it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").unlink(missing_ok=True)
    for file in sorted(made.iterdir()):
        shutil.copyfile(file, out / file.name)


def write_job(
    folder: Path, arguments: argparse.Namespace, base: Source | None = None, modules: Sequence[Source] = ()
) -> None:
    """The job folder that `composer.core.job.run` reads; before the base is there, its options alone."""
    job = {
        "schema": 1,
        "method": arguments.method,
        "search": arguments.search,
        "objective": arguments.objective,
        "select": arguments.select,
        "budget": arguments.budget,
        "seed": arguments.seed,
        "precision": arguments.precision,
        "rank": arguments.rank,
        "device": arguments.device,
        "batch_size": arguments.batch_size,
        "sentence": arguments.task,
        "template": arguments.template,
        "max_new_tokens": arguments.max_new_tokens,
        "baselines": arguments.baselines,
        "base": base and {"name": base.name, "folder": str(base.folder), "revision": base.revision},
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
    shutil.copyfile(arguments.examples, folder / "examples.jsonl")
    if arguments.held_out is not None:
        shutil.copyfile(arguments.held_out, folder / "held_out.jsonl")


def say_stage(event: dict[str, Any]) -> None:
    """A line for each stage: where no line can be drawn anew, in a log or a pipe."""
    if event["event"] == "stage":
        print(event["text"], file=sys.stderr, flush=True)


def progress_bar() -> Tell:
    """Draws stages and steps on one line of the terminal."""
    stage, done = "", set[str]()

    def draw(event: dict[str, Any]) -> None:
        nonlocal stage
        if event["event"] == "stage":
            stage = event["text"]
            done.clear()
            redraw(stage)
        elif parts := parts_done(event):
            done.update(parts)
            redraw(f"{stage}: {len(done)} done")
        elif event["event"] == "step":
            filled = BAR_WIDTH * event["step"] // event["budget"]
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            redraw(f"[{bar}] {event['step']}/{event['budget']}  best loss {event['best_loss']:.3f}")
        elif event["event"] == "done":
            redraw("")

    return draw


def parts_done(event: dict[str, Any]) -> set[str]:
    """Of a stage without steps: the modules that were tried, or the baseline that was measured."""
    if event["event"] == "alone":
        return {row["name"] for row in event["modules"]}
    return {event["key"]} if event["event"] == "baseline" else set()


def redraw(line: str) -> None:
    """Draw the terminal's last line anew; what does not fit is cut off, for a second line would stay."""
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
    print(f"{START_OF_LINE}{line[: columns - 1]}", end="", file=sys.stderr, flush=True)


def say_last(sentence: str) -> None:
    """How a command ended that did not do its work, in the place of the progress on a terminal."""
    begin = START_OF_LINE if sys.stderr.isatty() else ""
    print(f"{begin}composer: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
