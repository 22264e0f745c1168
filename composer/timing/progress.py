"""How far a composition is, and how long it takes yet: as estimated, and by the rate of its search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from composer.core.spec.choices import SMALL_RANK
from composer.core.spec.stages import PRUNE, SEARCH, STAGES
from composer.models import Composition, CompositionEvent

LATE_AFTER_S = 5.0  # behind an estimate; then it says nothing of what is left
STEPS_BEFORE_RATE = 5  # of a search, before its own rate tells more than that of others


@dataclass(frozen=True)
class StageProgress:
    """One stage of a composition for its page; None: that is not known, or not ahead any more."""

    label: str
    state: str  # done, current, waiting
    taken_s: float | None = None
    left_s: float | None = None
    is_late: bool = False  # it takes longer than was estimated, and how much longer is not known


def stages_of(
    composition: Composition,
    stage_events: Sequence[CompositionEvent],
    steps: Sequence[CompositionEvent],
    expected: Mapping[str, float],
    now: datetime,
) -> list[StageProgress]:
    """Every stage in order, with the seconds it took or will take.

    Args:
        expected: seconds by stage, as estimates has them.
        stage_events: the stage events of the current attempt, in order.
        steps: the first and the last step of it.
    """
    began = {event.detail["stage"]: event.at for event in stage_events}
    asked = [stage for stage in STAGES if stage is not PRUNE or composition.rank == SMALL_RANK]
    names = [stage.name for stage in asked]
    reached = names.index(composition.stage) if composition.stage in names and began else -1
    stages = []
    for number, (name, label) in enumerate((stage.name, stage.label) for stage in asked):
        if number < reached:
            ends = [began[later] for later in names[number + 1 :] if later in began]
            taken = (ends[0] - began[name]).total_seconds() if ends and name in began else None
            stages.append(StageProgress(label, "done", taken_s=taken))
        elif number == reached:
            begun = began.get(name, now)
            passed = (now - begun).total_seconds()
            left = steps_left_s(composition, steps, begun, now) if name == SEARCH.name else None
            if left is None and name in expected:
                left = expected[name] - passed
            stages.append(current_stage(label, left))
        else:
            stages.append(StageProgress(label, "waiting", left_s=expected.get(name)))
    return stages


def current_stage(label: str, left: float | None) -> StageProgress:
    """The stage that runs; `left` is in seconds, negative where its estimate has passed."""
    if left is None:
        return StageProgress(label, "current")
    if left < -LATE_AFTER_S:
        return StageProgress(label, "current", is_late=True)
    return StageProgress(label, "current", left_s=max(0.0, left))


def steps_left_s(
    composition: Composition, steps: Sequence[CompositionEvent], began: datetime, now: datetime
) -> float | None:
    """By the search's own rate since it began, negative where the last step took longer than others.

    None while it has made too few steps to have a rate.
    """
    if not steps:
        return None
    first, last = steps[0].detail["step"], steps[-1].detail["step"]
    if last - first < STEPS_BEFORE_RATE:
        return None
    told_at = steps[-1].at  # steps are stored some at a time, so those of a moment share theirs
    seconds_per_step = (told_at - began).total_seconds() / (last - first + 1)
    left: float = (composition.steps_planned - last) * seconds_per_step - (now - told_at).total_seconds()
    return left


def left_s(stages: Sequence[StageProgress]) -> float:
    """Until the report."""
    return sum(stage.left_s or 0.0 for stage in stages)


def left_words(stages: Sequence[StageProgress]) -> str:
    """How long it is until the report, as far as that is known."""
    if any(stage.is_late for stage in stages):
        return "taking longer than estimated"
    return f"{time_words(left_s(stages))} to the report"


def time_words(seconds: float) -> str:
    """No more exact than an estimate is."""
    if seconds < 2:
        return "about 1 s"
    if seconds < 20:
        return f"about {round(seconds)} s"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 3600:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def waited_words(seconds: int) -> str:
    """How long something has been so."""
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} minutes"
    return f"{seconds // 3600} hours"
