"""`python -m composer`: compose, evaluate and list methods, without a server or a database.

A base model and a module are a folder here, written as a path (./x, /x), or a Hub's owner/name@revision.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import NoReturn

from composer.core.spec import choices
from composer.core.spec.adapter_size import size_text
from composer.core.spec.errors import ComposeError
from composer.core.spec.example_files import Reading
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import require_disjoint
from composer.core.spec.verdict_rule import verdict_texts
from composer.library.job_folder import (
    Options,
    TaskExamples,
    compose_into,
    examples_in,
    fetch_sources,
    require_writable,
)
from composer.library.progress import START_OF_LINE, left_out_text, progress_line, say_stage

BAD_INPUT = 2  # exit status, as argparse's own
INTERRUPTED = 130  # as shells count an end by Ctrl-C
TEMPLATE_HELP = (
    "the prompt: text with {input} in it, chat for the base model's chat template, or auto: what the modules "
    "were trained with, else the base model's default"
)
EXAMPLES_HELP = (
    "JSON, JSON Lines, CSV or TSV in a usual dialect, such as input and output, instruction and output, "
    "messages, or question and answer"
)
SCRIPT = "lorahub"  # the name of the installed command that calls `main`
OPTIONS = tuple(field.name for field in fields(Options))


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
    script = Path(sys.argv[0]).stem
    prog = script if script == SCRIPT else "python -m composer"
    parser = OneSentenceParser(prog=prog, description=__doc__)
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
    add("--examples", required=True, type=a_path, help=EXAMPLES_HELP)
    add("--held-out", type=a_path, help="examples that only the report may see")
    add_columns(parser)
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
    add(
        "--rank",
        default=choices.SMALL_RANK,
        help=f"{choices.SMALL_RANK}: without needless modules, layers and rank; {choices.FULL_RANK}: the "
        "whole sum of the modules; a number: that sum cut to this rank by SVD",
    )
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
    add("--examples", required=True, type=a_path, help=EXAMPLES_HELP)
    add_columns(parser)
    add("--template", default=choices.DEFAULT_TEMPLATE, help=TEMPLATE_HELP)
    add("--max-new-tokens", type=int, default=choices.DEFAULT_MAX_NEW_TOKENS)
    parser.set_defaults(command=evaluate)


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which columns of the files are read."""
    add = parser.add_argument
    add(
        "--input-column",
        default="",
        metavar="NAME",
        help="the key or the column of the input, or its number in a table without names; several: a+b",
    )
    add("--output-column", default="", metavar="NAME", help="the key or the column of the output")
    add("--header", action="store_true", help="the first row of a table names its columns, and is no example")


def columns_of(arguments: argparse.Namespace) -> Columns:
    """Return the columns that were chosen."""
    return Columns(arguments.input_column, arguments.output_column, arguments.header)


def a_path(text: str) -> Path:
    """A path that was written; an empty one would mean the folder one stands in."""
    if not text:
        raise argparse.ArgumentTypeError("name a file or a folder, not nothing")
    return Path(text)


def default_budgets() -> str:
    return ", ".join(f"{budget} for {method}" for method, budget in choices.BUDGET_OF_METHOD.items())


# --- the commands -------------------------------------------------------------


def compose(arguments: argparse.Namespace) -> None:
    """Make a job folder of the arguments, run it, and move the result to --out."""
    columns = columns_of(arguments)
    given = examples_in(arguments.examples, choices.EXAMPLES_LIMIT, columns)
    held_out = Reading(())
    if arguments.held_out is not None:
        held_out = examples_in(arguments.held_out, choices.HELD_OUT_LIMIT, columns)
        require_disjoint(held_out.examples, given.examples)
    require_writable(arguments.out)
    tell = progress_line() if sys.stderr.isatty() else say_stage
    compose_into(
        arguments.out,
        TaskExamples(given.examples, held_out.examples, (*given.notes, *held_out.notes)),
        Options(**{name: getattr(arguments, name) for name in OPTIONS}),
        partial(fetch_sources, arguments.base, arguments.modules, tell),
        tell,
    )
    report = json.loads((arguments.out / "report.json").read_text(encoding="utf-8"))
    for row in report["modules_left_out"]:
        print(left_out_text(row["name"], row["reason"]))
    print("\n".join(verdict_texts(report["verdict"])))
    print(size_text(report))
    for row in report["baselines"]:
        if row["adapter"] and row["key"] == report["verdict"]["advised"]:
            print(f"Its adapter is in {arguments.out / row['adapter']}.")


def evaluate(arguments: argparse.Namespace) -> None:
    """Print one JSON object of figures."""
    given = examples_in(arguments.examples, choices.HELD_OUT_LIMIT, columns_of(arguments))
    tell = progress_line() if sys.stderr.isatty() else say_stage
    for note in given.notes:
        tell({"event": "warning", "text": note})
    base, *modules = fetch_sources(
        arguments.base, [] if arguments.adapter is None else [arguments.adapter], tell
    )
    from composer.core.evaluation import scoring

    figures = scoring.evaluate_adapter(
        base=base,
        adapter=modules[0] if modules else None,
        examples=given.examples,
        template=arguments.template,
        max_new_tokens=arguments.max_new_tokens,
        on_event=tell,
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


def say_last(sentence: str) -> None:
    """How a command ended that did not do its work, in the place of the progress on a terminal."""
    begin = START_OF_LINE if sys.stderr.isatty() else ""
    print(f"{begin}composer: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
