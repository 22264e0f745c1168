"""How modules are selected: what the request's selection means, and which modules it leaves to the core."""

import random
from collections.abc import Sequence

from composer.core.spec.choices import TEXT_LIMIT
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.examples import Example
from composer.core.spec.selection import parse_selectors
from composer.matching import compatibility
from composer.matching.leakage import find_compatible_modules
from composer.matching.ranking import MODULES_MAX
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


def modules_selected(
    base: BaseModel,
    method: str,
    selection: str,
    chosen: Sequence[Version],
    seed: int,
    examples: Sequence[Example],
    owner: User,
) -> list[compatibility.ModuleCompatibility]:
    """The modules that will take part, or that the core chooses among, pinned now.

    A draw that comes first is made here, so that out of a large library only those drawn are fetched.
    Only by name comes a module in that was made from some of the examples themselves.
    """
    first, _, rest = selection.partition("+")
    require_selectors(rest if first == "chosen" else selection)
    if first == "chosen":
        return require_few(require_all_fit(chosen, base, method))
    return require_few(draw_modules(require_fitting(base, method, examples, owner), first, seed))


def require_fitting(
    base: BaseModel, method: str, examples: Sequence[Example], owner: User
) -> list[compatibility.ModuleCompatibility]:
    """The modules that fit and were not made from these examples, if there are any."""
    compatible = find_compatible_modules(base, method, examples, owner)
    if not compatible.clean:
        problem = (
            f"No module in the library can be composed on {base.name} with this method. Upload one first."
            if not compatible.leaking
            else f"All modules that fit {base.name} were made from some of these very examples. "
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


def require_all_fit(
    chosen: Sequence[Version], base: BaseModel, method: str
) -> list[compatibility.ModuleCompatibility]:
    unique = list({version.pk: version for version in chosen}.values())
    if not unique:
        raise field_refusal(
            "no_modules", "modules", "Choose at least one module, or let all of them take part."
        )
    compatibilities = compatibility.compatibility_of(unique, base, method)
    problems = [f"{fit.name}: {reason.message}" for fit in compatibilities for reason in fit.reasons]
    if problems:
        message = f"{' '.join(problems[:3])} Leave out what does not fit."
        raise Refusal("modules_do_not_match", message, fields={"modules": problems})
    return compatibilities


def draw_modules(
    compatible: Sequence[compatibility.ModuleCompatibility], selector: str, seed: int
) -> list[compatibility.ModuleCompatibility]:
    """Some of them by `random:K`; all of them by any other selector, which the core follows."""
    name, _, number = selector.partition(":")
    if name != "random":
        return list(compatible)
    count = int(number)
    if count > len(compatible):
        problem = (
            f"{count} modules cannot be drawn: {len(compatible)} fit. Draw at most so many, or take all."
        )
        raise field_refusal("bad_selection", "selection", problem)
    return random.Random(seed).sample(list(compatible), count)


def require_few(
    compatibilities: Sequence[compatibility.ModuleCompatibility],
) -> list[compatibility.ModuleCompatibility]:
    if len(compatibilities) > MODULES_MAX:
        problem = (
            f"These are {len(compatibilities)} modules; at most {MODULES_MAX} are composed at once. "
            "Draw some at random."
        )
        raise field_refusal("too_many_modules", "modules", problem)
    return list(compatibilities)
