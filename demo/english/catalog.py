"""Which modules the English library holds, and which tasks nobody was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from demo.english.skills import ASKS, FORMS, PLAIN, TEXTS
from demo.english.words import EnglishExample, Part

SHOTS = 5
DRAWS = 3
HELD_OUT = 100


@dataclass(frozen=True)
class Combination:
    """What is asked, and the form of the answer."""

    ask: str = TEXTS
    form: str = PLAIN

    @property
    def name(self) -> str:
        """The name of its module or task; the small demo world has modules of the same skills."""
        return "-".join(("en", *self.skills))

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the skills that it needs."""
        return tuple(name for name in (self.ask, self.form) if name not in (TEXTS, PLAIN))

    @property
    def title(self) -> str:
        return " + ".join((ASKS if name in ASKS else FORMS)[name].title for name in self.skills)

    @property
    def sentence(self) -> str:
        """What is done, in one sentence without its full stop."""
        asked = ASKS[self.ask].does
        sentence = asked if self.form == PLAIN else f"{asked}, {FORMS[self.form].does}"
        return sentence[0].upper() + sentence[1:]

    def examples(self, part: Part) -> tuple[EnglishExample, ...]:
        """Every example of a part, in an order of its own."""
        write = FORMS[self.form].write
        rows = [EnglishExample(text, write(answer)) for text, answer in ASKS[self.ask].examples(part)]
        Random(f"{'-'.join(self.skills)} {part}").shuffle(rows)
        return tuple(dict.fromkeys(rows))


def asking(*names: str) -> tuple[Combination, ...]:
    return tuple(Combination(ask=name) for name in names)


def writing(*names: str) -> tuple[Combination, ...]:
    return tuple(Combination(form=name) for name in names)


def both(*names: str) -> tuple[Combination, ...]:
    return tuple(Combination(*name.split("-")) for name in names)


WORD_MODULES = asking(
    "past",
    "plural",
    "kind",
    "sentiment",
    "adverb",
    "article",
    "ing",
    "possessive",
    "negation",
    "numbers",
    "third",
    "continent",
    "passive",
)
FORM_MODULES = writing("quotes", "json", "brackets", "answer", "saying", "bold", "shout", "stars")
MODULES = (*WORD_MODULES, *FORM_MODULES)


@dataclass(frozen=True)
class Task:
    """A task for which no module was trained."""

    combination: Combination
    kind: str  # composable, near or negative


def _tasks(kind: str, combinations: Sequence[Combination]) -> tuple[Task, ...]:
    return tuple(Task(combination, kind) for combination in combinations)


TASKS = (
    *_tasks(
        "composable",
        both(
            "past-quotes",
            "past-json",
            "plural-brackets",
            "plural-saying",
            "kind-json",
            "adverb-answer",
            "sentiment-brackets",
            "third-shout",
            "numbers-brackets",
            "article-json",
            "negation-quotes",
            "ing-bold",
            "possessive-stars",
        ),
    ),
    *_tasks(
        "near",
        (*asking("denied", "ongoing", "group", "review"), *both("sentiment-upper")),
    ),
    *_tasks("negative", asking("superlative", "negated", "letters", "backwards", "end", "last")),
)


@dataclass(frozen=True)
class TaskExamples:
    """What a user has (three draws of five shots) and what judges the result."""

    shots: tuple[tuple[EnglishExample, ...], ...]
    held_out: tuple[EnglishExample, ...]


def task_examples(combination: Combination) -> TaskExamples:
    """No input occurs twice, neither within a part nor across parts."""
    rows = combination.examples("shots")
    shots = tuple(rows[draw * SHOTS : (draw + 1) * SHOTS] for draw in range(DRAWS))
    return TaskExamples(shots, combination.examples("held_out")[:HELD_OUT])
