"""The selection of modules as text, such as `random:20+screen:8`.

`parse_selectors` turns the text into selectors, and composer.core.selection applies them. The module
imports the standard library only, so forms can check a selection without loading torch.
"""

import re
from dataclasses import dataclass

from composer.core.spec.errors import InvalidJobError

MANY = 64  # modules; if there are fewer, screening scores all of them on every example
# Share of many modules that go on after one example. One example suffices: of 27 modules, the best 12 by the
# example with the longest answer included 92 % of those that 57 samples of tasks needed; by all five 93 %.
SURVIVORS = 0.2

SELECTOR = re.compile(r"(?P<name>all|random|screen|near)(:(?P<count>[1-9][0-9]{0,3}))?")


@dataclass(frozen=True)
class Selector:
    """One step of the selection.

    Attributes:
        name: all, random, screen or near.
        count: how many modules it keeps; None for all.
    """

    name: str
    count: int | None

    @property
    def depends_on_examples(self) -> bool:
        """Return whether the result depends on the few-shot examples."""
        return self.name in ("screen", "near")


def parse_selectors(text: str) -> tuple[Selector, ...]:
    """Return the selectors of `random:20+screen:8`, in the order of application.

    Raises:
        InvalidJobError: a part is not a selector.
    """
    selectors = []
    for part in text.split("+"):
        match = SELECTOR.fullmatch(part)
        if match is None or (match["name"] == "all") != (match["count"] is None):
            raise InvalidJobError(
                f"{part!r} is no way to choose modules. Use all, random:K, screen:K or near:K, joined by +."
            )
        selectors.append(Selector(match["name"], int(match["count"]) if match["count"] else None))
    return tuple(selectors)


def kept_at_most(selection: str, n_modules: int) -> int:
    """Return how many of so many modules a selection keeps at most.

    Args:
        selection: as `parse_selectors` reads it; it may begin with "chosen", which keeps all.
        n_modules: that it begins with.

    Raises:
        InvalidJobError: a part is not a selector.
    """
    first, _, rest = selection.partition("+")
    steps = parse_selectors((rest or "all") if first == "chosen" else selection)
    return min([n_modules, *(step.count for step in steps if step.count)])
