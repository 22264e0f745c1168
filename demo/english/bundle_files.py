"""The files of the bundle, and what bundle.json says about them.

bundle.json        what there is, and how good
modules/<name>/    a module, as peft saves it in fp16, with a card
tasks/<name>/      shots-0.jsonl, shots-1.jsonl, shots-2.jsonl, heldout.jsonl

The base model is no part of it: demo.english.base makes it from a package.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from demo.english import BASE_NAME
from demo.english.base import PACKAGE_SHA256
from demo.english.cards import module_card, module_tags
from demo.english.catalog import DRAWS, MODULES, TASKS, Combination, Task, task_examples
from demo.english.words import EnglishExample

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
    config = json.loads((unfinished / "adapter_config.json").read_text())
    config["target_modules"].sort()  # peft writes a set: its order changes from run to run
    write_json(unfinished / "adapter_config.json", config)
    (unfinished / "README.md").write_text(module_card(combination), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def save_tasks(folder: Path) -> None:
    for task in TASKS:
        examples = task_examples(task.combination)
        task_folder = folder / task.combination.name
        task_folder.mkdir(parents=True)
        for number, shots in enumerate(examples.shots):
            write_examples(task_folder / f"shots-{number}.jsonl", shots)
        write_examples(task_folder / "heldout.jsonl", examples.held_out)


def write_examples(path: Path, examples: Iterable[EnglishExample]) -> None:
    lines = [json.dumps(example._asdict(), ensure_ascii=False) for example in examples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def describe_bundle(quality: dict[str, float]) -> dict[str, Any]:
    """The content of bundle.json. Quality is exact match on dev, in percent."""
    return {
        "schema": 1,
        "base": BASE_NAME,
        "base_revision": PACKAGE_SHA256[:40],  # the files differ with the version of transformers
        "base_sentence": BASE_SENTENCE,
        "modules": [describe_module(combination) for combination in MODULES],
        "tasks": [describe_task(task) for task in TASKS],
        "quality": {"modules": quality},
    }


def describe_module(combination: Combination) -> dict[str, Any]:
    return {
        "name": combination.name,
        "title": combination.title,
        "sentence": combination.sentence + ".",
        "tags": module_tags(combination),
        "skills": list(combination.skills),
    }


def describe_task(task: Task) -> dict[str, Any]:
    folder = f"tasks/{task.combination.name}"
    return {
        "name": task.combination.name,
        "sentence": task.combination.sentence,
        "skills": list(task.combination.skills),
        "kind": task.kind,
        "shots": {str(number): f"{folder}/shots-{number}.jsonl" for number in range(DRAWS)},
        "held_out": f"{folder}/heldout.jsonl",
    }
