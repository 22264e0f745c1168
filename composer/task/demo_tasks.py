"""The ready-made tasks of the demo worlds."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from composer.core.spec.example_files import read_file
from composer.core.spec.examples import Example, example_sha256
from modules_registry.demo_worlds import ENGLISH, SMALL, DemoWorld, demo_world
from modules_registry.models import BaseModel


@dataclass(frozen=True)
class DemoTask:
    """A ready-made task of a demo world, with its examples."""

    name: str
    base: str
    sentence: str
    kind: str  # composable, new_knowledge, near, negative
    skills: tuple[str, ...]
    shots: tuple[Example, ...]
    held_out: tuple[Example, ...]


def demo_tasks() -> tuple[DemoTask, ...]:
    """The tasks of the small world, and those of the English library once its base model is there."""
    return demo_tasks_beside(BaseModel.objects.values_list("name", flat=True))


def demo_tasks_beside(bases: Iterable[str]) -> tuple[DemoTask, ...]:
    """The same, by the names of the library's base models."""
    small, english = (read_demo_tasks(demo_world(name)) for name in (SMALL, ENGLISH))
    return small + (english if english and english[0].base in bases else ())


def is_in_library(tasks: tuple[DemoTask, ...]) -> bool:
    return bool(tasks) and BaseModel.objects.filter(name=tasks[0].base).exists()


def offers_english() -> bool:
    """Return whether the English library could be loaded, and is not."""
    english = read_demo_tasks(demo_world(ENGLISH))
    return bool(english) and not is_in_library(english)


def demo_task(name: str) -> DemoTask | None:
    return next((task for task in demo_tasks() if task.name == name), None)


def ready_made_pairs() -> frozenset[Example]:
    """All examples of the demo tasks, which everybody can read."""
    return frozenset(pair for task in demo_tasks() for pair in (*task.shots, *task.held_out))


def ready_made_hashes() -> frozenset[str]:
    """The sha256 of each of them, as losses are kept by it."""
    return frozenset(map(example_sha256, ready_made_pairs()))


def example_input(base: BaseModel, tasks: Iterable[DemoTask]) -> str:
    """How the base's modules saw an input; empty when none of the ready-made tasks shows it."""
    return next((task.shots[0].input for task in tasks if task.base == base.name), "")


@cache
def read_demo_tasks(world: DemoWorld) -> tuple[DemoTask, ...]:
    """Read once: a bundle is part of the release and does not change under a running site."""
    listing = world.listing
    if listing is None:
        return ()
    return tuple(
        DemoTask(
            name=task["name"],
            base=listing["base"],
            sentence=task["sentence"],
            kind=task["kind"],
            skills=tuple(task["skills"]),
            shots=read_pairs(world.bundle / task["shots"]["0"]),
            held_out=read_pairs(world.bundle / task["held_out"]),
        )
        for task in listing["tasks"]
    )


def read_pairs(path: Path) -> tuple[Example, ...]:
    return read_file(path).examples
