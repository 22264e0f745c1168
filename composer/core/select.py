"""Which modules to compose, out of those that fit."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from composer.core.errors import InvalidJobError

SELECTOR = re.compile(r"(?P<name>all|random|screen)(:(?P<count>[1-9][0-9]{0,3}))?")


@dataclass(frozen=True)
class Selector:
    """One step of choosing: its name and how many modules it keeps (None: all)."""

    name: str
    count: int | None


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
                f"{part!r} is no way to choose modules. Use all, random:K or screen:K, joined by +."
            )
        selectors.append(Selector(match["name"], int(match["count"]) if match["count"] else None))
    return tuple(selectors)


def select_modules(
    selectors: Sequence[Selector], n_modules: int, *, seed: int, alone: Callable[[], Sequence[float]]
) -> tuple[int, ...]:
    """The chosen indices, in their original order.

    Args:
        alone: the few-shot loss of every module used alone, (N,); called only when needed.
    """
    kept = list(range(n_modules))
    for selector in selectors:
        if selector.name == "random":
            drawn = random.Random(seed).sample(kept, min(selector.count or 0, len(kept)))
            kept = sorted(drawn)
        elif selector.name == "screen":
            losses = alone()
            best = sorted(kept, key=lambda i: (losses[i], i))[: selector.count]
            kept = sorted(best)
    return tuple(kept)
