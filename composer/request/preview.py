"""What a form, as it stands, would lead to: told beside it while it is filled in, right or not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.core.exceptions import ValidationError

from composer.core.spec.choices import (
    BASELINES_OF_LEVEL,
    BUDGET_LIMIT,
    DEFAULT_LEVEL,
    DEFAULT_METHOD,
    LEVELS,
    OBJECTIVES,
    SEARCHES_OF_METHOD,
    Choice,
    choice_names,
    has_search,
    level_budget,
)
from composer.core.spec.counting import count_noun
from composer.core.spec.example_files import ExampleLinesError, Reading
from composer.core.spec.examples import Example, exclude_examples
from composer.matching.compatibility import FittingModules
from composer.matching.leakage import find_compatible_modules, leakage_text
from composer.matching.ranking import MODULES_MAX, MODULES_NAMED_MAX, RankedModule, rank_fitting
from composer.matching.selection import ModulesCounted, count_modules
from composer.matching.templates import preview_of, prompt_blocks, stated_templates
from composer.matching.unwritable import unwritable_text
from composer.matching.workers import missing_worker
from composer.request.forms import COUNT_DEFAULT, COUNT_MAX, LIMITS, CompositionForm, template_typed
from composer.request.selectors import find_held_out
from composer.request.services import require_template
from composer.task.demo_tasks import demo_tasks_beside, example_input
from composer.task.examples import Note, row_notes, split_aside, valid_pairs
from composer.timing.estimates import Amounts, Estimate, estimate_all, mean_characters
from composer.timing.queue import Place, place_of_new
from hub_site.common.errors import Refusal
from modules_registry.models import BaseModel
from modules_registry.selectors import current_versions

CANDIDATES_SHOWN = 6
ROWS_SHOWN, PROBLEMS_TOLD = 3, 3  # of a pasted text, below it
EXAMPLE_SUPPOSED = Example("your first input", "its output")
SHOTS_SUPPOSED = 5  # as long as none are there, the time is told for so many


@dataclass(frozen=True)
class Level:
    """One of the three plain choices, with what it means for this form."""

    choice: Choice
    estimate: Estimate
    is_chosen: bool


@dataclass(frozen=True)
class TextShown:
    """What is read of a pasted text, told below it."""

    group: str  # the fields it belongs to: “shots” or “held_out”
    reading: Reading
    problems: list[str]

    @property
    def first(self) -> list[Example]:
        return list(self.reading.examples[:ROWS_SHOWN])

    @property
    def n_more(self) -> int:
        return max(0, len(self.reading.examples) - ROWS_SHOWN)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that can be chosen; a table without names has numbers."""
        return self.reading.columns


@dataclass(frozen=True)
class Preview:
    base: BaseModel
    base_reason: str
    notes: list[Note]
    n_shots: int
    n_held_out: int
    n_fitting: int
    n_modules: int  # that are composed, at most
    n_tried: int  # that are tried alone before
    candidates: list[RankedModule]
    leaking_modules: list[str]  # that fit, and were made from some of these very examples
    leaking_chosen: list[str]  # of those, the ones that take part because they are named
    levels: list[Level]
    place: Place
    missing_worker: str  # why no worker of the site can take it; empty: one can
    prompt: dict[str, Any]
    input_shown: str  # as the base's modules saw one; empty where no ready-made task tells
    n_aside: int  # of the examples, that could measure; 0: they are few, or others measure already
    unwritable: str  # outputs that the base cannot write; empty where there is none
    texts: dict[str, TextShown]  # by the fields they belong to

    @property
    def chosen_level(self) -> Level:
        return next(level for level in self.levels if level.is_chosen)

    @property
    def taking_part_text(self) -> str:
        """Which modules are tried and composed, as long as nothing else is chosen."""
        if self.n_fitting == 1:
            return "One module fits this base. It is tried on your examples."
        best = f", and the best {self.n_modules} are composed" if self.n_modules < self.n_tried else ""
        ends = f"tried on your examples{best}."
        if self.n_tried < self.n_fitting:
            return (
                f"Of the {self.n_fitting:,} modules that fit this base, the {self.n_tried:,} most promising "
                f"are {ends}"
            )
        return f"{self.n_fitting:,} modules fit this base. All are {ends}"

    @property
    def leaking_left_out(self) -> list[str]:
        return [name for name in self.leaking_modules if name not in self.leaking_chosen]

    @property
    def leaking_chosen_text(self) -> str:
        return leakage_text(self.leaking_chosen)

    @property
    def notes_text(self) -> str:
        """In one line, for who does not see the rows."""
        wrong = sum(note.level == "error" for note in self.notes)
        odd = len(self.notes) - wrong
        told = [f"{count_noun(n, 'row')} {what}" for n, what in ((wrong, "to fix"), (odd, "to check")) if n]
        return ", ".join(told)


def make_preview(form: CompositionForm) -> Preview | None:
    """None where there is no base to compose on."""
    base = form.chosen_base()
    if base is None:
        return None
    rows, method, level = form.given_rows(), method_of(form), level_of(form)
    texts = {group: text_shown(form, group) for group in LIMITS}
    examples = [*valid_pairs(rows), *texts["shots"].reading.examples]
    held_out = exclude_examples([*kept_held_out(form), *texts["held_out"].reading.examples], examples)
    task_text = f"{text_of(form, 'name')} {text_of(form, 'sentence')}"
    compatible = find_compatible_modules(base, method, [*examples, *held_out], form.owner)
    best_first = rank_fitting(compatible.clean, task_text, examples, form.owner, MODULES_MAX)
    counts = {choice.name: modules_counted(form, compatible.clean, choice.name) for choice in LEVELS}
    workload = {
        choice.name: Amounts(
            n_shots=len(examples) or SHOTS_SUPPOSED,
            n_held_out=len(held_out),
            n_modules=counts[choice.name].n_modules,
            n_tried=counts[choice.name].n_tried,
            budget=number_of(form, "budget", BUDGET_LIMIT) or level_budget(choice.name, method),
            baselines=text_of(form, "baselines") or BASELINES_OF_LEVEL[choice.name],
            search=choice_of(form, "search", "auto", lambda name: has_search(method, name)),
            objective=choice_of(form, "objective", "loss", choice_names(OBJECTIVES).__contains__),
            characters=mean_characters([*examples, *held_out]),
        )
        for choice in LEVELS
    }
    estimates = estimate_all(base, method, [workload[choice.name] for choice in LEVELS])
    levels = [
        Level(choice, found, choice.name == level) for choice, found in zip(LEVELS, estimates, strict=True)
    ]
    missing = missing_worker(base, text_of(form, "device"))
    return Preview(
        base=base,
        base_reason=base_reason(base, form.bases),
        notes=row_notes(rows),
        n_shots=len(examples),
        n_held_out=len(held_out),
        n_fitting=compatible.clean.count,
        n_modules=counts[level].n_modules,
        n_tried=counts[level].n_tried,
        candidates=[candidate for candidate in best_first if candidate.is_known][:CANDIDATES_SHOWN],
        leaking_modules=[fit.name for fit in compatible.leaking],
        leaking_chosen=[fit.name for fit in compatible.leaking if fit.name in chosen_by_hand(form)],
        levels=levels,
        place=place_of_new(
            form.owner.pk if form.owner else None, next(it.estimate for it in levels if it.is_chosen)
        ),
        missing_worker=missing.message if missing else "",
        prompt=prompt_shown(form, base, best_first, counts[level].n_modules, examples),
        input_shown=example_input(base, demo_tasks_beside([it.name for it in form.bases])),
        n_aside=n_to_keep_aside(examples, held_out, texts.values()),
        unwritable=unwritable_text(base, [*examples, *held_out]),
        texts=texts,
    )


def n_to_keep_aside(
    examples: Sequence[Example], held_out: Sequence[Example], texts: Iterable[TextShown]
) -> int:
    """How many of the examples could measure; 0 where others do, and while a text cannot be read."""
    if held_out or any(text.problems for text in texts):
        return 0
    return len(split_aside(examples)[1])


def prompt_shown(
    form: CompositionForm,
    base: BaseModel,
    best_first: list[RankedModule],
    n_modules: int,
    examples: list[Example],
) -> dict[str, Any]:
    """What the model would read of the first example, for the page."""
    if text_of(form, "selection") == "chosen":
        named = [str(name) for name in form["modules"].value() or ()][:MODULES_NAMED_MAX]
        stated = stated_templates(current_versions(named, form.owner).items())
    else:
        stated = {it.fit.name: it.prompt_template for it in best_first[:n_modules]}
    first = examples[0] if examples else EXAMPLE_SUPPOSED
    preview = preview_of(
        base,
        template_typed(text_of(form, "template")),
        stated,
        first.input,
        first.output,
    )
    warnings = [*template_problems(base, text_of(form, "template")), *preview.warnings]
    return (
        asdict(preview)
        | {"warnings": warnings, "is_known": preview.is_known}
        | prompt_blocks(preview.prompt, preview.answer)
    )


def template_problems(base: BaseModel, typed: str) -> list[str]:
    """Why a request in this template would be refused, if it would be."""
    try:
        require_template(base, template_typed(typed))
    except Refusal as refusal:
        return [refusal.message]
    return []


def base_reason(base: BaseModel, counted: Sequence[BaseModel]) -> str:
    """Why this base, or how it stands beside the one we would have chosen.

    Args:
        counted: as selectors.bases_counted.
    """
    of_this = next(it.modules_count for it in counted if it.pk == base.pk)
    modules = count_noun(of_this, "module")
    if counted[0].pk != base.pk:
        best = counted[0]
        return f"Your choice: {modules} fit it; {best.name} has most, {best.modules_count:,}."
    if len(counted) == 1:
        return f"The only base in the library, with {modules}."
    return f"Chosen for you: {modules} fit it, the most of any base."


def modules_counted(form: CompositionForm, fitting: FittingModules, level: str) -> ModulesCounted:
    selection = text_of(form, "selection")
    if selection in ("screen", "random"):
        count = number_of(form, f"{selection}_count", COUNT_MAX) or COUNT_DEFAULT
        selection = f"{selection}:{count}"
    elif selection == "steps":
        selection = text_of(form, "steps").replace(" ", "") or "all"
    return count_modules(fitting, selection, level, len(form["modules"].value() or ()))


def chosen_by_hand(form: CompositionForm) -> list[str]:
    """What is ticked, where the way to pick begins with that."""
    selection = text_of(form, "selection")
    way = text_of(form, "steps").strip() if selection == "steps" else selection
    return list(form["modules"].value() or ()) if way.startswith("chosen") else []


def text_shown(form: CompositionForm, group: str) -> TextShown:
    """What is read of a pasted text; while a line is wrong, nothing."""
    try:
        return TextShown(group, form.read(group, text_of(form, f"{group}_text")), [])
    except ExampleLinesError as error:
        return TextShown(group, Reading((), columns=error.columns), error.problems[:PROBLEMS_TOLD])


def file_shown(form: CompositionForm, group: str) -> TextShown:
    """What is read of a chosen file, before it is sent with the form."""
    shown_as = f"{group}_file"
    try:
        reading = form.read_file(group)
    except ExampleLinesError as error:
        return TextShown(shown_as, Reading((), columns=error.columns), error.problems[:PROBLEMS_TOLD])
    except ValidationError as error:
        return TextShown(shown_as, Reading(()), error.messages[:PROBLEMS_TOLD])
    return TextShown(shown_as, replace(reading, header=None), [])  # a file's first row goes by its columns


def kept_held_out(form: CompositionForm) -> list[Example]:
    source = text_of(form, "held_out_from")
    return (find_held_out(source, form.owner) or []) if source else []


def text_of(form: CompositionForm, name: str) -> str:
    value: Any = form[name].value()
    return "" if value is None else str(value)


def number_of(form: CompositionForm, name: str, most: int) -> int | None:
    """The number in a field, if it is one that can be; a form may hold anything while it is written."""
    text = text_of(form, name)
    return min(int(text), most) if text.isascii() and text.isdecimal() and int(text[:9]) > 0 else None


def choice_of(form: CompositionForm, name: str, default: str, exists: Callable[[str], bool]) -> str:
    """What is chosen in a field; the default as long as there is no such choice."""
    text = text_of(form, name)
    return text if exists(text) else default


def method_of(form: CompositionForm) -> str:
    return choice_of(form, "method", DEFAULT_METHOD, SEARCHES_OF_METHOD.__contains__)


def level_of(form: CompositionForm) -> str:
    return choice_of(form, "level", DEFAULT_LEVEL, BASELINES_OF_LEVEL.__contains__)
