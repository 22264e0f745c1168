"""The ready-made tasks of the demo world."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings

from composer.core.spec.examples import Example
from composer.task.examples import pairs_from_text
from modules_registry.models import BaseModel


@dataclass(frozen=True)
class DemoTask:
    """A ready-made task of the demo world, with its examples."""

    name: str
    base: str
    sentence: str
    kind: str  # composable, new_knowledge, negative
    skills: tuple[str, ...]
    shots: tuple[Example, ...]
    held_out: tuple[Example, ...]


def demo_tasks() -> tuple[DemoTask, ...]:
    """The demo world's tasks; none when the site runs without it."""
    return read_demo_tasks(Path(settings.HUB_DEMO_BUNDLE))


def demo_task(name: str) -> DemoTask | None:
    return next((task for task in demo_tasks() if task.name == name), None)


def ready_made_pairs() -> frozenset[Example]:
    """All examples of the demo tasks, which everybody can read."""
    return frozenset(pair for task in demo_tasks() for pair in (*task.shots, *task.held_out))


def example_input(base: BaseModel) -> str:
    """How the base's modules saw an input; empty when no ready-made task shows it."""
    return next((task.shots[0].input for task in demo_tasks() if task.base == base.name), "")


@cache
def read_demo_tasks(bundle: Path) -> tuple[DemoTask, ...]:
    """Read once: the bundle is part of the release and does not change under a running site."""
    try:
        listing = json.loads((bundle / "bundle.json").read_text())
    except FileNotFoundError:
        return ()
    return tuple(
        DemoTask(
            name=task["name"],
            base=listing["base"],
            sentence=task["sentence"],
            kind=task["kind"],
            skills=tuple(task["skills"]),
            shots=read_pairs(bundle / task["shots"]["0"]),
            held_out=read_pairs(bundle / task["held_out"]),
        )
        for task in listing["tasks"]
    )


def read_pairs(path: Path) -> tuple[Example, ...]:
    return tuple(pairs_from_text(path.read_text(encoding="utf-8")))
