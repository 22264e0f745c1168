"""The files of the bundle, and what bundle.json says about them.

bundle.json        what there is, and how good
base/              the base model and its tokenizer, as transformers saves them
modules/<name>/    a module, as peft saves it, with a card
tasks/<name>/      shots-0.jsonl, shots-1.jsonl, shots-2.jsonl, heldout.jsonl
"""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import T5ForConditionalGeneration

from demo.bundle_parts import describe_module, describe_task, save_task, sort_targets
from demo.cards import module_card, module_tags, module_title
from demo.catalog import DRAWS, MODULES, TASKS, Task, task_examples
from demo.grammar import Combination
from demo.tokenizer import make_tokenizer
from demo.train import BASE_NAME

BASE_SENTENCE = "A T5 of about a million parameters, trained on the demo world of 72 words."


def save_base(base: T5ForConditionalGeneration, folder: Path) -> None:
    base.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)  # one that was used would carry its last padding along


def save_module(module: PeftModel, combination: Combination, folder: Path) -> None:
    module.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask a Hub for the base
    sort_targets(folder)
    (folder / "README.md").write_text(module_card(combination))


def save_tasks(folder: Path) -> None:
    for task in TASKS:
        examples = task_examples(task.combination)
        save_task(folder / task.combination.name, examples.shots, examples.held_out)


def describe_bundle(quality: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The content of bundle.json. Quality is exact match on dev, in percent."""
    return {
        "schema": 1,
        "base": BASE_NAME,
        "base_sentence": BASE_SENTENCE,
        "modules": [module_row(combination) for combination in MODULES],
        "tasks": [task_row(task) for task in TASKS],
        "quality": quality,
    }


def module_row(combination: Combination) -> dict[str, Any]:
    return describe_module(
        combination.name,
        title=module_title(combination),
        sentence=combination.sentence,
        tags=module_tags(combination),
        skills=combination.skills,
    )


def task_row(task: Task) -> dict[str, Any]:
    combination = task.combination
    return describe_task(
        combination.name,
        sentence=combination.sentence,
        skills=combination.skills,
        kind=task.kind,
        draws=DRAWS,
    )
