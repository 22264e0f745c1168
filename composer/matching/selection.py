"""How modules are selected: what the request's selection means, and which modules it leaves to the core."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from composer.core.spec.choices import TEXT_LIMIT
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.examples import Example
from composer.core.spec.selection import kept_at_most, parse_selectors
from composer.matching.compatibility import FittingModule, FittingModules, compatibility_of, fitting_module
from composer.matching.leakage import find_compatible_modules
from composer.matching.ranking import modules_to_try, most_composed, most_tried
from composer.models import Composition
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal, field_refusal
from modules_registry import blobs as registry
from modules_registry.core.errors import CARD_FILE
from modules_registry.models import BaseModel, Version

NEAR = "near:"  # a choice of modules by their texts


def remaining_selection(composition: Composition) -> str:
    """What is left to choose among its modules: who was drawn first or chosen by hand is a row already."""
    first, _, rest = composition.selection.partition("+")
    if first == "chosen" or first.startswith("random:"):
        return rest or "all"
    return composition.selection


def module_text(version: Version, selection: str) -> str:
    """What its author says of a module, if its choice goes by that."""
    if NEAR not in selection:
        return ""
    card = version.files.filter(path=CARD_FILE).first()
    if card is None:
        return ""
    with registry.open_stored(card.sha256) as file:
        return file.read(4 * TEXT_LIMIT).decode("utf-8", "replace")[:TEXT_LIMIT]


@dataclass(frozen=True)
class Selected:
    """What a selection means for the library as it is: the modules to fetch, and what is left to the core."""

    selection: str  # as it is stored
    modules: list[FittingModule]


def require_selection(
    base: BaseModel, method: str, selection: str, chosen: Sequence[Version]
) -> list[FittingModule]:
    """Refuse what selects nothing, in an estimate as in a request.

    Returns:
        The modules that are named, where they are chosen by hand.
    """
    first, _, rest = selection.partition("+")
    if first == "chosen":
        require_selectors(rest)
        return require_few(require_all_fit(chosen, base, method), rest)
    require_selectors("all" if selection == "auto" else selection)
    return []


def modules_selected(
    base: BaseModel,
    method: str,
    selection: str,
    level: str,
    chosen: Sequence[Version],
    seed: int,
    task_text: str,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    owner: User,
) -> Selected:
    """The modules that will take part, or that the core chooses among, pinned now.

    A draw that comes first is made here, so that out of a large library only those drawn are fetched. Out of
    more than can be tried alone, those are tried that promise most. If more than `most_composed` would be
    composed, those are that are best alone. Only by name comes a module in that was made from some of the
    examples themselves.

    Args:
        level: what “auto” goes by.
        examples: to compose from; the most promising are ranked by these and by the text of the task.
    """
    named = require_selection(base, method, selection, chosen)
    asked = "all" if selection == "auto" else selection
    first = asked.partition("+")[0]
    if first == "chosen":
        return Selected(selection, named)
    clean = require_fitting(base, method, [*examples, *held_out], owner)
    is_quick = selection == "auto" and level == "quick"
    most = most_composed(is_quick=is_quick)
    if first.startswith("random:"):
        drawn = draw_modules(clean, int(first.partition(":")[2]), seed)
        return Selected(limit_kept(asked, len(drawn), most), drawn)
    tried = modules_to_try(clean, task_text, examples, owner, is_quick=is_quick)
    return Selected(limit_kept(asked, len(tried), most), tried)


@dataclass(frozen=True)
class ModulesCounted:
    """How many modules take part, as far as that is known before anything is tried."""

    n_tried: int  # alone, on the examples
    n_modules: int  # that are composed, at most


def count_modules(fitting: FittingModules, selection: str, level: str, n_named: int) -> ModulesCounted:
    """As `modules_selected` would count; what selects nothing counts as “all”.

    Args:
        n_named: modules that are named.
    """
    is_quick = selection == "auto" and level == "quick"
    first, _, rest = selection.partition("+")
    steps = rest if first == "chosen" else selection
    try:
        parse_selectors(steps)
    except InvalidJobError:
        steps = "all"
    n_tried = (
        n_named if first == "chosen" else min(fitting.count, most_tried(fitting.base, is_quick=is_quick))
    )
    if steps != "all" and first.startswith("random:"):
        n_tried = kept_at_most(first, n_tried)
    most = most_composed(is_quick=is_quick)
    return ModulesCounted(n_tried, min(most, kept_at_most(steps, n_tried)))


def limit_kept(selection: str, n_modules: int, most: int) -> str:
    """The selection, with a last step where it would keep more modules than are composed."""
    if kept_at_most(selection, n_modules) <= most:
        return selection
    screen = f"screen:{most}"
    return screen if selection == "all" else f"{selection}+{screen}"


def require_fitting(base: BaseModel, method: str, examples: Sequence[Example], owner: User) -> FittingModules:
    """The modules that fit and were not made from these examples, if there are any."""
    compatible = find_compatible_modules(base, method, examples, owner)
    if not compatible.clean.count:
        problem = (
            f"No module in the library can be composed on {base.name} with this method. Upload one first."
            if not compatible.leaking
            else f"All modules that fit {base.name} were made from some of these examples. "
            "Name them to compose them all the same, or upload another one first."
        )
        raise field_refusal("no_compatible_module", "modules", problem)
    return compatible.clean


def require_selectors(text: str) -> None:
    """Whether these are selectors, joined by +; none are none."""
    try:
        parse_selectors(text or "all")
    except InvalidJobError as error:
        problem = (
            f"“{text[:40]}” selects no modules. Use all, random:20, screen:20 or near:20 "
            "(or another number), joined by +; or chosen."
        )
        raise field_refusal("bad_selection", "selection", problem) from error


def require_all_fit(chosen: Sequence[Version], base: BaseModel, method: str) -> list[FittingModule]:
    unique = list({version.pk: version for version in chosen}.values())
    if not unique:
        raise field_refusal(
            "no_modules", "modules", "Choose at least one module, or let all of them take part."
        )
    found = compatibility_of(unique, base, method)
    problems = [f"{fit.name}: {reason.message}" for fit, reasons in found for reason in reasons]
    if problems:
        message = f"{' '.join(problems[:3])} Leave out what does not fit."
        raise Refusal("modules_do_not_match", message, fields={"modules": problems})
    return [fit for fit, _ in found]


def draw_modules(fitting: FittingModules, count: int, seed: int) -> list[FittingModule]:
    """So many of them, at random."""
    most = most_tried(fitting.base)
    problem = (
        f"{count} modules cannot be drawn: {fitting.count} fit. Draw at most so many, or take all."
        if count > fitting.count
        else f"{count} modules cannot be drawn: at most {most} are tried on {fitting.base.name} at once."
    )
    if count > min(fitting.count, most):
        raise field_refusal("bad_selection", "selection", problem)
    names = list(fitting.candidates.order_by("name").values_list("pk", flat=True))
    drawn = random.Random(seed).sample(names, count)
    rows = fitting.candidates.in_bulk(drawn)
    return [fitting_module(rows[pk]) for pk in drawn]


def require_few(named: list[FittingModule], rest: str) -> list[FittingModule]:
    """Modules that were named, if no more of them are composed than can be."""
    most = most_composed()
    if kept_at_most(rest or "all", len(named)) > most:
        problem = (
            f"These are {len(named)} modules; at most {most} are composed at once. "
            f"Let the best of them take part: chosen+screen:{most}."
        )
        raise field_refusal("too_many_modules", "modules", problem)
    return named
