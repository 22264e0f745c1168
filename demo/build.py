"""Make the whole demo bundle: `python -m demo.build [--out demo/bundle]`.

One core, some minutes. The bundle appears only when every promise about its quality
holds; a build that breaks one fails and leaves the old bundle as it was.
"""

import argparse
import logging
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from demo import BUNDLE
from demo.bundle_files import describe_bundle, save_base, save_module, save_tasks
from demo.bundle_parts import write_json
from demo.catalog import MODULES, NEW_KNOWLEDGE_MODULE, pretraining_examples
from demo.grammar import hub_examples
from demo.quality import (
    below_required,
    measure,
    measure_skills,
    measure_sums,
    measure_unseen,
    require_quality,
)
from demo.tokenizer import make_tokenizer
from demo.train import (
    BASE_SCHEDULE,
    EXTRA_SCHEDULE,
    MODULE_SCHEDULE,
    NEW_KNOWLEDGE_SCHEDULE,
    fit,
    new_base,
    new_module,
)

EXTRA_ROUNDS = 3  # more training for a base with a weak skill, before giving up

log = logging.getLogger(__name__)


def build(out: Path) -> None:
    """Make the bundle beside its place, and move it there once it is whole."""
    torch.set_num_threads(1)  # the same sums in the same order, on any number of cores
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    make_bundle(unfinished)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def make_bundle(folder: Path) -> None:
    tokenizer = make_tokenizer()
    base = new_base(len(tokenizer), seed=0)
    skills = train_base(base, tokenizer)
    save_base(base, folder / "base")
    unseen = measure_unseen(base, tokenizer)
    modules = train_modules(base, tokenizer, folder / "modules")
    sums = measure_sums(base, tokenizer, folder / "modules")
    save_tasks(folder / "tasks")
    quality = {
        "skills_instructed": skills,
        "unseen_instructed": unseen,
        "modules": modules,
        "unseen_sum_of_modules": sums,
    }
    write_json(folder / "bundle.json", describe_bundle(quality))


def train_base(base: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Train until the base has every single skill, and return how well it has each."""
    log.info("base model: %s steps", BASE_SCHEDULE.steps)
    examples = pretraining_examples("train")
    fit(base, tokenizer, examples, BASE_SCHEDULE)
    skills = measure_skills(base, tokenizer)
    for _ in range(EXTRA_ROUNDS):
        if not below_required(skills):
            break
        log.info("base model: %s more steps for %s", EXTRA_SCHEDULE.steps, below_required(skills))
        fit(base, tokenizer, examples, EXTRA_SCHEDULE)
        skills = measure_skills(base, tokenizer)
    require_quality("The base model", skills)
    return skills


def train_modules(
    base: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> dict[str, float]:
    """Train, measure and save every module, each with an A of its own."""
    quality = {}
    for seed, combination in enumerate(MODULES, start=1):
        module = new_module(base, seed)
        schedule = NEW_KNOWLEDGE_SCHEDULE if combination == NEW_KNOWLEDGE_MODULE else MODULE_SCHEDULE
        fit(module, tokenizer, hub_examples(combination, "train"), schedule)
        quality[combination.name] = measure(module, tokenizer, hub_examples(combination, "dev"))
        log.info("module %s: %s %% on dev", combination.name, quality[combination.name])
        save_module(module, combination, folder / combination.name)
        module.unload()
    require_quality("A module", quality)
    return quality


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo world: base model, modules and tasks.")
    parser.add_argument("--out", type=Path, default=BUNDLE, help="folder to make (default: demo/bundle)")
    transformers_logging.disable_progress_bar()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
