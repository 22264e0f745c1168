"""Where a figure lies on its track: losses from zero or by decades, and axes that break for outliers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LOG_FROM = 20  # largest / smallest loss; from here on the small ones would lie together at zero
LOG_ROOM = 1.15  # beyond the smallest and the largest loss, as a factor
OUTLIER = 4  # times the next largest rise; a larger one would press the others together
OUTLIERS_MAX = 2  # with more of them the axis shows nearly nothing whole
BREAK_ROOM = 1.3  # of the axis, in units of the largest rise that it shows whole


@dataclass(frozen=True)
class LossScale:
    """One scale for the losses of a chart, in nats per token.

    Attributes:
        low: the loss at the left end; 0 unless the scale is logarithmic.
        high: the loss at the right end.
        is_log: whether equal steps are equal factors.
    """

    low: float
    high: float
    is_log: bool

    def place(self, loss: float) -> float:
        """Return where a loss lies, in percent of the track."""
        if self.is_log:
            return 100 * math.log(loss / self.low) / math.log(self.high / self.low)
        return 100 * (loss - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[dict[str, object]]:
        """Return the losses to name below the tracks: the place in percent, the text, and its anchor."""
        if not self.is_log:
            return [
                {"place": 0.0, "text": "0", "anchor": "start"},
                {"place": 100.0, "text": f"{self.high:.2f}", "anchor": "end"},
            ]
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        decades = [10.0**power for power in range(first, last + 1)]
        return [{"place": self.place(loss), "text": f"{loss:g}", "anchor": "middle"} for loss in decades]


def loss_scale(losses: Sequence[float]) -> LossScale:
    """Return the scale of these losses: logarithmic where they span more than LOG_FROM."""
    least, most = min(losses, default=0.0), max(losses, default=0.0)
    if least > 0 and most / least > LOG_FROM:
        return LossScale(least / LOG_ROOM, most * LOG_ROOM, is_log=True)
    return LossScale(0.0, most or 1.0, is_log=False)


def axis_end(start: float, values: Sequence[float]) -> float:
    """Return where an axis from `start` ends; values beyond it are outliers, which it breaks for.

    The rises of the values above `start` are compared, largest first: one that is more than OUTLIER times the
    next is an outlier, as is the one above it. There are at most OUTLIERS_MAX, and no more than a third.
    """
    rises = sorted((value - start for value in values if value > start), reverse=True)
    for larger, smaller in pairwise(rises[: min(OUTLIERS_MAX, len(rises) // 3) + 1]):
        if larger > OUTLIER * smaller:
            return start + BREAK_ROOM * smaller
    return start + (rises[0] if rises else 0.0)
