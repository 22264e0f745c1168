"""How modules are to be chosen, as text: `random:20+screen:8`.

Standard library only, so that forms and services can read it without loading torch.
"""

import re
from dataclasses import dataclass

from composer.core.spec.errors import InvalidJobError

SELECTOR = re.compile(r"(?P<name>all|random|screen|near)(:(?P<count>[1-9][0-9]{0,3}))?")


@dataclass(frozen=True)
class Selector:
    """One step of choosing: its name and how many modules it keeps (None: all)."""

    name: str
    count: int | None

    @property
    def depends_on_examples(self) -> bool:
        """Whether other shots might have it choose other modules."""
        return self.name in ("screen", "near")


def parse_selectors(text: str) -> tuple[Selector, ...]:
    """`random:20+screen:8` as steps to take one after the other.

    Raises:
        InvalidJobError: a part is no selector.
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
