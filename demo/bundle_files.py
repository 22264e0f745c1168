"""The files of the bundle, and what bundle.json says about them.

bundle.json        what there is, and how good
base/              the base model and its tokenizer, as transformers saves them
modules/<name>/    a module, as peft saves it, with a card
tasks/<name>/      shots-0.jsonl, shots-1.jsonl, shots-2.jsonl, heldout.jsonl
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import T5ForConditionalGeneration

from demo.cards import module_card, module_tags, module_title
from demo.catalog import DRAWS, MODULES, TASKS, Task, task_examples
from demo.grammar import Combination, DemoExample
from demo.tokenizer import make_tokenizer
from demo.train import BASE_NAME

BASE_SENTENCE = "A T5 of about a million parameters, trained on the demo world of 72 words."


def save_base(base: T5ForConditionalGeneration, folder: Path) -> None:
    base.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)  # one that was used would carry its last padding along


def save_module(module: PeftModel, combination: Combination, folder: Path) -> None:
    module.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask a Hub for the base
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()  # peft writes a set: its order changes from run to run
    write_json(folder / "adapter_config.json", config)
    (folder / "README.md").write_text(module_card(combination))


def save_tasks(folder: Path) -> None:
    for task in TASKS:
        examples = task_examples(task.combination)
        task_folder = folder / task.combination.name
        task_folder.mkdir(parents=True)
        for number, shots in enumerate(examples.shots):
            write_examples(task_folder / f"shots-{number}.jsonl", shots)
        write_examples(task_folder / "heldout.jsonl", examples.held_out)


def write_examples(path: Path, examples: Iterable[DemoExample]) -> None:
    lines = [json.dumps(example._asdict(), ensure_ascii=False) for example in examples]
    path.write_text("\n".join(lines) + "\n")


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def describe_bundle(quality: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The content of bundle.json. Quality is exact match on dev, in percent."""
    return {
        "schema": 1,
        "base": BASE_NAME,
        "base_sentence": BASE_SENTENCE,
        "modules": [describe_module(combination) for combination in MODULES],
        "tasks": [describe_task(task) for task in TASKS],
        "quality": quality,
    }


def describe_module(combination: Combination) -> dict[str, Any]:
    return {
        "name": combination.name,
        "title": module_title(combination),
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
