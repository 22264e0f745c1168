"""Pictures that the server draws: where weights are strong, and what a module was made from and made into."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modules_registry.core.delta import Strength, split_path
from modules_registry.lineage import VisibleChild, VisibleParent

# --- strengths: a square for each layer, by block and target ------------------

LABEL_WIDTH = 190  # units of the drawing, as all below
PLOT_WIDTH = 500
CELL_HEIGHT = 18
CELL_WIDTH_MAX = 44
LABEL_CHARACTERS = 26
LEAST_SHADE = 0.05  # of the weakest layer, so that it is seen to be adapted


@dataclass(frozen=True)
class Cell:
    x: float
    y: int
    shade: float  # LEAST_SHADE to 1: ‖ΔW‖_F as a share of the largest
    text: str


@dataclass(frozen=True)
class StackPicture:
    """The layers of one stack, such as an encoder: a row for each target, a column for each block."""

    name: str
    targets: tuple[tuple[str, int], ...]  # the label and the y of its text
    ticks: tuple[tuple[int, float], ...]  # the number of a block and the x of its text
    cells: tuple[Cell, ...]
    cell_width: float
    width: int
    height: int


@dataclass(frozen=True)
class StrengthRow:
    """One layer, as the table shows it."""

    strength: Strength
    share: float  # percent of the sum of ‖ΔW‖_F² over all layers


@dataclass(frozen=True)
class StrengthPicture:
    stacks: tuple[StackPicture, ...]
    rows: tuple[StrengthRow, ...]  # the strongest first
    half: int  # the fewest layers that hold half of the sum of ‖ΔW‖_F²

    @property
    def strongest(self) -> StrengthRow:
        return self.rows[0]


def strength_picture(strengths: Sequence[Strength]) -> StrengthPicture | None:
    """Draw how strong each layer is; None where the weights change nothing."""
    total = sum(strength.norm**2 for strength in strengths)
    if not total:
        return None
    rows = sorted(
        (StrengthRow(strength, 100 * strength.norm**2 / total) for strength in strengths),
        key=lambda row: -row.share,
    )
    held = half = 0.0
    for row in rows:
        if held >= 50:
            break
        held, half = held + row.share, half + 1
    largest = rows[0].strength.norm
    by_stack: dict[str, list[tuple[int, str, Strength]]] = {}
    for strength in strengths:
        stack, block, target = split_path(strength.path)
        by_stack.setdefault(stack, []).append((block, target, strength))
    stacks = tuple(draw_stack(name, layers, largest) for name, layers in sorted(by_stack.items()))
    return StrengthPicture(stacks, tuple(rows), int(half))


def draw_stack(name: str, layers: Sequence[tuple[int, str, Strength]], largest: float) -> StackPicture:
    targets = sorted({target for _, target, _ in layers})
    last = max(block for block, _, _ in layers)
    cell_width = min(CELL_WIDTH_MAX, PLOT_WIDTH / (last + 1))
    place = {target: row * CELL_HEIGHT for row, target in enumerate(targets)}
    cells = tuple(
        Cell(
            x=LABEL_WIDTH + block * cell_width,
            y=place[target],
            shade=LEAST_SHADE + (1 - LEAST_SHADE) * strength.norm / largest,
            text=f"{strength.path}: {strength.norm:.3g}",
        )
        for block, target, strength in layers
    )
    every = max(1, round(30 / cell_width))  # a number needs some 30 units
    ticks = tuple((block, LABEL_WIDTH + (block + 0.5) * cell_width) for block in range(0, last + 1, every))
    labels = tuple((shortened_start(target, LABEL_CHARACTERS), y + 13) for target, y in place.items())
    height = len(targets) * CELL_HEIGHT
    return StackPicture(
        name=name or "layers",
        targets=labels,
        ticks=ticks,
        cells=cells,
        cell_width=cell_width,
        width=LABEL_WIDTH + math.ceil((last + 1) * cell_width),
        height=height + 20,
    )


# --- lineage: a line for each parent and each child ---------------------------

LINE_HEIGHT = 22
LINES_MAX = 60  # drawn on one side; the table has all
NAME_CHARACTERS = 30
WIDTH = 340
NAME_WIDTH = 236  # from here the lines run to the module
THINNEST, THICKEST = 1.0, 9.0
ENDS_HEIGHT = 40  # of all ends of curves together


@dataclass(frozen=True)
class Line:
    """A module beside another one, and how much of one went into the other."""

    name: str
    href: str
    weight: float
    made_from: int = 0  # how many modules a parent was made from itself


@dataclass(frozen=True)
class DrawnLine:
    line: Line
    label: str
    y: int
    thickness: float
    path: str  # of the curve to the other module

    @property
    def is_negative(self) -> bool:
        return self.line.weight < 0


@dataclass(frozen=True)
class LineagePicture:
    """One direction of a lineage."""

    lines: tuple[DrawnLine, ...]
    left_out: int  # that are in the table alone
    width: int
    height: int
    middle: int


def parents_picture(parents: Sequence[VisibleParent], made_from: Mapping[int, int]) -> LineagePicture:
    """What went into a module, heaviest first; each leads to the very version.

    Args:
        made_from: by a version's key, how many modules it was made from itself.
    """
    return draw_lines(
        [
            Line(
                each.module.full_name,
                each.version.get_absolute_url(),
                each.weight,
                made_from.get(each.version.pk, 0),
            )
            for each in parents
        ]
    )


def children_picture(children: Sequence[VisibleChild]) -> LineagePicture:
    """What a module went into, in the order given: the same picture read the other way."""
    return draw_lines(
        [Line(each.module.full_name, each.module.get_absolute_url(), each.weight) for each in children]
    )


def draw_lines(found: Sequence[Line]) -> LineagePicture:
    shown = found[:LINES_MAX]
    height = max(len(shown), 2) * LINE_HEIGHT
    middle = height // 2
    heaviest = max((abs(line.weight) for line in shown), default=0.0) or 1.0
    bend = (NAME_WIDTH + WIDTH) // 2
    drawn = []
    for number, line in enumerate(shown):
        y = number * LINE_HEIGHT + LINE_HEIGHT // 2
        # The ends of the curves lie beside each other, so that thick ones do not hide thin ones.
        end = middle + round((number - (len(shown) - 1) / 2) * min(LINE_HEIGHT, ENDS_HEIGHT / len(shown)), 1)
        drawn.append(
            DrawnLine(
                line,
                label=shortened(line.name, NAME_CHARACTERS),
                y=y,
                thickness=round(max(THINNEST, THICKEST * abs(line.weight) / heaviest), 1),
                path=f"M{NAME_WIDTH} {y}C{bend} {y} {bend} {end} {WIDTH - 12} {end}",
            )
        )
    return LineagePicture(tuple(drawn), len(found) - len(shown), WIDTH, height, middle)


def shortened(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


def shortened_start(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"…{text[1 - length_max :]}"
