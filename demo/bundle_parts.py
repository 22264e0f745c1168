"""What both demo bundles write alike: tasks, examples, configs, and their rows in bundle.json."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

CONFIG = "adapter_config.json"


class WritableExample(Protocol):
    """An example of either world: a named tuple of an input and an output."""

    def _asdict(self) -> dict[str, Any]: ...


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_examples(path: Path, examples: Iterable[WritableExample]) -> None:
    lines = [json.dumps(example._asdict(), ensure_ascii=False) for example in examples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sort_targets(module: Path) -> None:
    """Sort the target modules in a config: peft writes a set, whose order changes from run to run."""
    config = json.loads((module / CONFIG).read_text(encoding="utf-8"))
    config["target_modules"].sort()
    write_json(module / CONFIG, config)


def save_task(
    folder: Path, draws: Iterable[Iterable[WritableExample]], held_out: Iterable[WritableExample]
) -> None:
    """Write the folder of a task: its draws of few-shot examples, and those held out."""
    folder.mkdir(parents=True)
    for number, examples in enumerate(draws):
        write_examples(folder / f"shots-{number}.jsonl", examples)
    write_examples(folder / "heldout.jsonl", held_out)


def describe_module(
    name: str, *, title: str, sentence: str, tags: Sequence[str], skills: Iterable[str]
) -> dict[str, Any]:
    """Return what bundle.json says of a module; the sentence comes without its full stop."""
    return {
        "name": name,
        "title": title,
        "sentence": f"{sentence}.",
        "tags": list(tags),
        "skills": list(skills),
    }


def describe_task(
    name: str, *, sentence: str, skills: Iterable[str], kind: str, draws: int
) -> dict[str, Any]:
    """Return what bundle.json says of a task, and where its files are."""
    folder = f"tasks/{name}"
    return {
        "name": name,
        "sentence": sentence,
        "skills": list(skills),
        "kind": kind,
        "shots": {str(number): f"{folder}/shots-{number}.jsonl" for number in range(draws)},
        "held_out": f"{folder}/heldout.jsonl",
    }
