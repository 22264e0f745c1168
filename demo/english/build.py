"""Train the modules of the English library and write the bundle.

    python -m demo.english.build [--out demo/english/bundle] [--base FOLDER] [--modules NAME ...]

A build that was ended goes on with the next module. Several processes may share the work by naming
modules; the one that finds all of them there writes the bundle.
"""

import argparse
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from demo.bundle_parts import write_json
from demo.english import BUNDLE
from demo.english.bundle_files import describe_bundle, save_module, save_tasks
from demo.english.catalog import FORM_MODULES, MODULES, Combination
from demo.english.train import ChatModel, Schedule, exact_match_percent, fit, new_module, round_weights

DEV_EXAMPLES = 64
REQUIRED_PERCENT = 70.0  # exact match of every module on dev words
WORD_SCHEDULE = Schedule(steps=60)
FORM_SCHEDULE = Schedule(steps=24)
SEEDS = {  # of A and of the order of examples; the missing numbers were of modules that were given up
    "past": 1,
    "plural": 2,
    "kind": 3,
    "sentiment": 4,
    "adverb": 5,
    "article": 7,
    "ing": 8,
    "possessive": 9,
    "negation": 10,
    "numbers": 12,
    "third": 13,
    "continent": 14,
    "passive": 15,
    "quotes": 16,
    "json": 17,
    "brackets": 18,
    "answer": 19,
    "saying": 20,
    "bold": 21,
    "shout": 22,
    "stars": 23,
}

log = logging.getLogger(__name__)


class QualityError(RuntimeError):
    """A module is worse than the library promises."""


def build(out: Path, base_folder: Path, names: Sequence[str]) -> None:
    """Train what is missing of the named modules; with all of them there, write the bundle."""
    torch.set_num_threads(1)  # the same sums in the same order, on any number of cores
    unfinished = out.with_name(out.name + ".unfinished")
    (unfinished / "quality").mkdir(parents=True, exist_ok=True)
    missing = [one for one in MODULES if one.name in names and not quality_file(unfinished, one).is_file()]
    if missing:
        base = ChatModel.load(base_folder)
        for combination in missing:
            train_module(base, combination, unfinished)
    if all(quality_file(unfinished, one).is_file() for one in MODULES):
        finish(unfinished, out)


def train_module(base: ChatModel, combination: Combination, unfinished: Path) -> None:
    """Train, measure and save one module, with an A of its own."""
    (skill,) = combination.skills
    seed = SEEDS[skill]
    schedule = FORM_SCHEDULE if combination in FORM_MODULES else WORD_SCHEDULE
    began_s = time.monotonic()
    module = new_module(base, seed)
    fit(module, base, combination.examples("train"), schedule, seed)
    round_weights(module)
    trained_s = time.monotonic() - began_s
    percent = exact_match_percent(module, base, combination.examples("dev")[:DEV_EXAMPLES])
    log.info("module %s: %s %% on dev after %.0f s of training", combination.name, percent, trained_s)
    save_module(module, combination, unfinished / "modules" / combination.name)
    module.unload()
    write_json(quality_file(unfinished, combination), {"percent": percent})


def quality_file(unfinished: Path, combination: Combination) -> Path:
    """Written last: a module that has it is whole."""
    return unfinished / "quality" / f"{combination.name}.json"


def finish(unfinished: Path, out: Path) -> None:
    """Add tasks and listing, and move the bundle to its place."""
    quality = {one.name: json.loads(quality_file(unfinished, one).read_text())["percent"] for one in MODULES}
    weak = {name: percent for name, percent in quality.items() if percent < REQUIRED_PERCENT}
    if weak:
        raise QualityError(f"A module is below {REQUIRED_PERCENT} % on dev: {weak}")
    shutil.rmtree(unfinished / "tasks", ignore_errors=True)
    save_tasks(unfinished / "tasks")
    write_json(unfinished / "bundle.json", describe_bundle(quality))
    shutil.rmtree(unfinished / "quality")
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def main() -> None:
    names = [combination.name for combination in MODULES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=BUNDLE, help="folder to make")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--modules", nargs="+", choices=names, default=names, help="train only these")
    asked = parser.parse_args()
    transformers_logging.disable_progress_bar()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    build(asked.out, asked.base, asked.modules)


if __name__ == "__main__":
    main()
