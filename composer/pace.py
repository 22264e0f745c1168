"""How long a composition takes: by how long like ones took here, and by its own pace once it searches.

An estimate, and every page that shows it says so. Where nothing like it has finished on this site, there
is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from composer.models import Composition, CompositionEvent

STAGES = {
    "load": "Load",
    "screen": "Try each module",
    "search": "Search the weights",
    "export": "Write the adapter",
    "evaluate": "Check it",
}
STEPS_OF_PACE = 40  # the last so many tell how fast a search is
STEPS_BEFORE_PACE = 5  # of a search, before its own pace tells more than others' do


@dataclass(frozen=True)
class Work:
    """What the length of a composition's stages goes by."""

    n_modules: int
    n_shots: int
    n_held_out: int
    budget: int

    def units_of(self, stage: str) -> int:
        """How much there is to do in a stage, in a unit of its own; 1 where none of these matters."""
        units = {
            "load": self.n_modules,
            "screen": self.n_modules * self.n_shots,
            "search": self.budget,
            "evaluate": self.n_shots + self.n_held_out,
        }
        return max(1, units.get(stage, 1))


@dataclass(frozen=True)
class Finished:
    """One that is done: how much there was to do, and the seconds that each stage took."""

    work: Work
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Stage:
    """One stage of a composition for its page; seconds that are not known are None."""

    label: str
    state: str  # done, current, waiting
    taken_s: float | None = None
    left_s: float | None = None


def expected_seconds(work: Work, finished: Sequence[Finished]) -> dict[str, float]:
    """By stage, from the speeds of ones like it (the median). Empty: nobody knows."""
    return {
        stage: work.units_of(stage)
        * median(one.seconds[stage] / one.work.units_of(stage) for one in finished if stage in one.seconds)
        for stage in STAGES
        if any(stage in one.seconds for one in finished)
    }


def stages_of(
    composition: Composition,
    told: Sequence[CompositionEvent],
    steps: Sequence[CompositionEvent],
    expected: Mapping[str, float],
    now: datetime,
) -> list[Stage]:
    """Every stage in order, with the seconds it took or, as far as can be said, will take.

    Args:
        told: the stage events of the current attempt, in order.
        steps: its last steps, in order.
    """
    began = {event.detail["stage"]: event.at for event in told}
    names = list(STAGES)
    reached = names.index(composition.stage) if composition.stage in STAGES and began else -1
    stages = []
    for number, (name, label) in enumerate(STAGES.items()):
        if number < reached:
            ends = [began[later] for later in names[number + 1 :] if later in began]
            taken = (ends[0] - began[name]).total_seconds() if ends and name in began else None
            stages.append(Stage(label, "done", taken_s=taken))
        elif number == reached:
            passed = (now - began[name]).total_seconds() if name in began else 0.0
            left = steps_left_s(composition, steps, now) if name == "search" else None
            if left is None and name in expected:
                left = max(0.0, expected[name] - passed)
            stages.append(Stage(label, "current", left_s=left))
        else:
            stages.append(Stage(label, "waiting", left_s=expected.get(name)))
    return stages


def steps_left_s(composition: Composition, steps: Sequence[CompositionEvent], now: datetime) -> float | None:
    """By the search's own pace; None while it has made too few steps to have one."""
    if len(steps) < STEPS_BEFORE_PACE:
        return None
    first, last = steps[0], steps[-1]
    made = last.detail["step"] - first.detail["step"]
    pace_s = (last.at - first.at).total_seconds() / max(1, made)
    ahead = composition.steps_planned - last.detail["step"]
    left: float = ahead * pace_s - (now - last.at).total_seconds()
    return max(0.0, left)


def left_s(stages: Sequence[Stage]) -> float | None:
    """Until the report; None if it cannot be said of some stage."""
    ahead = [stage.left_s for stage in stages if stage.state != "done"]
    known = [seconds for seconds in ahead if seconds is not None]
    return sum(known) if len(known) == len(ahead) else None


def time_words(seconds: float) -> str:
    """No more exact than an estimate is."""
    if seconds < 2:
        return "a moment"
    if seconds < 20:
        return f"about {round(seconds)} s"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 3600:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
