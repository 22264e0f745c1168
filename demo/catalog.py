"""Which modules the demo library holds, and which tasks nobody was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from demo.grammar import (
    CHANGES,
    FORMS,
    SELECTORS,
    Combination,
    DemoExample,
    hub_example,
    hub_examples,
    instructed_example,
)
from demo.words import WORDS

PURE_MODULES = tuple(Combination.of(skill) for skill in (*SELECTORS, *CHANGES, *FORMS))
NEW_KNOWLEDGE_MODULE = Combination.of("partner")
MIXED_MODULES = tuple(
    Combination.of(name)
    for name in (
        "place-french",
        "fruit-spanish",
        "cloth-star",
        "plural-brackets",
        "kind-answer",
        "initial-quotes",
    )
)
MODULES = (*PURE_MODULES, NEW_KNOWLEDGE_MODULE, *MIXED_MODULES)


@dataclass(frozen=True)
class Task:
    """A task for which no module was trained."""

    combination: Combination
    kind: str  # composable, new_knowledge or negative


def _tasks(kind: str, *names: str) -> tuple[Task, ...]:
    return tuple(Task(Combination.of(name), kind) for name in names)


TASKS = (
    *_tasks(
        "composable",
        "fruit-upper",
        "body-answer",
        "tool-plural",
        "animal-spanish",
        "cloth-french",
        "place-initial",
        "cloth-brackets",
        "tool-letters",
        "french-quotes",
        "letters-star",
        "plural-dots",
        "spanish-shout",
        "body-plural-shout",
        "animal-french-dots",
        "tool-spanish-star",
        "fruit-plural-the",
    ),
    *_tasks("new_knowledge", "animal-partner", "partner-quotes", "cloth-partner-answer"),
    *_tasks("negative", "german", "fruit-german", "place-last"),
)
UNSEEN = frozenset(task.combination for task in TASKS)

SHOTS = 5
DRAWS = 3
HELD_OUT = 100
HELD_OUT_SINGLE_WORD = 55  # of 72 words; the 15 shown in some draw are never asked


def pretraining_examples(seed: str) -> Iterator[DemoExample]:
    """An endless stream of instructed examples over every combination but the unseen ones."""
    random = Random(f"{seed} pretraining")
    while True:
        combination = _draw_combination(random)
        if combination not in UNSEEN:
            yield instructed_example(combination, combination.draw_words(random), random)


def _draw_combination(random: Random) -> Combination:
    """Each axis asks for something about half of the time, so that single skills are common."""
    return Combination(
        select=random.choice(list(SELECTORS)) if random.random() < 0.60 else "only",
        change=random.choice(list(CHANGES)) if random.random() < 0.55 else "same",
        form=random.choice([*FORMS, "upper"]) if random.random() < 0.48 else "plain",  # upper is harder
    )


@dataclass(frozen=True)
class TaskExamples:
    """What a user has (three draws of five shots) and what judges the result."""

    shots: tuple[tuple[DemoExample, ...], ...]
    held_out: tuple[DemoExample, ...]


def task_examples(combination: Combination) -> TaskExamples:
    """No input occurs twice, neither within a part nor across parts."""
    if combination.takes_one_word:
        inputs = _single_word_examples(combination)
        n_held_out = HELD_OUT_SINGLE_WORD
    else:
        inputs = _unique(hub_examples(combination, "task"))
        n_held_out = HELD_OUT
    shots = tuple(tuple(islice(inputs, SHOTS)) for _ in range(DRAWS))
    return TaskExamples(shots, tuple(islice(inputs, n_held_out)))


def _single_word_examples(combination: Combination) -> Iterator[DemoExample]:
    words = list(WORDS)
    Random(f"task {combination.name}").shuffle(words)
    return (hub_example(combination, [word]) for word in words)


def _unique(examples: Iterator[DemoExample]) -> Iterator[DemoExample]:
    seen = set()
    for example in examples:
        if example.input not in seen:
            seen.add(example.input)
            yield example
