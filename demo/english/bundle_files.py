"""The files of the bundle, and what bundle.json says about them.

bundle.json        what there is, and how good
modules/<name>/    a module, as peft saves it in fp16, with a card
tasks/<name>/      shots-0.jsonl, shots-1.jsonl, shots-2.jsonl, heldout.jsonl

The base model is no part of it: demo.english.base makes it from a package.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from demo.bundle_parts import describe_module, describe_task, save_task, sort_targets
from demo.english import BASE_NAME
from demo.english.base import PACKAGE_SHA256
from demo.english.cards import module_card, module_tags
from demo.english.catalog import DRAWS, MODULES, TASKS, Combination, Task, task_examples

BASE_SENTENCE = (
    "SmolLM2-135M-Instruct by Hugging Face, from weights of four bits: a small chat model of English."
)
WEIGHTS = "adapter_model.safetensors"


def save_module(module: PeftModel, combination: Combination, folder: Path) -> None:
    """Write a module beside its place, and move it there once it is whole."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    module.save_pretrained(
        str(unfinished), save_embedding_layers=False
    )  # "auto" would ask a Hub for the base
    weights = {name: tensor.to(torch.float16) for name, tensor in load_file(unfinished / WEIGHTS).items()}
    save_file(weights, unfinished / WEIGHTS, metadata={"format": "pt"})
    sort_targets(unfinished)
    (unfinished / "README.md").write_text(module_card(combination), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def save_tasks(folder: Path) -> None:
    for task in TASKS:
        examples = task_examples(task.combination)
        save_task(folder / task.combination.name, examples.shots, examples.held_out)


def describe_bundle(quality: dict[str, float]) -> dict[str, Any]:
    """The content of bundle.json. Quality is exact match on dev, in percent."""
    return {
        "schema": 1,
        "base": BASE_NAME,
        "base_revision": PACKAGE_SHA256[:40],  # the files differ with the version of transformers
        "base_sentence": BASE_SENTENCE,
        "modules": [module_row(combination) for combination in MODULES],
        "tasks": [task_row(task) for task in TASKS],
        "quality": {"modules": quality},
    }


def module_row(combination: Combination) -> dict[str, Any]:
    return describe_module(
        combination.name,
        title=combination.title,
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
