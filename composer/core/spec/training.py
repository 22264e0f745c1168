"""How long adapters are trained on the examples: at which learning rates, and for at most how many steps.

The search decides what a job costs, so training is bounded by the search's budget, in its own unit: a
scored candidate is one forward pass over the examples, and a gradient step of one LoRA counts as
GRADIENT_STEP_COST of them, as it does in the search. Work is counted, never timed, because no result may
depend on the clock.

- The LoRA baseline may take LORA_SHARE of the budget, and tuning the composition TUNED_SHARE of it.
- Where Gauss-Newton finds the weights with a tenth of the candidates that gradient fits took, the budget
  counts as those (TRAINING_PER_CANDIDATE): a baseline must not train less because the search became cheaper.

A search too short to pay for the choice of the steps gets a LoRA of FIXED_STEPS, without a choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from composer.core.spec.choices import GRADIENT_STEP_COST, as_list
from composer.core.spec.counting import count_noun

FOLDS = 5  # of the examples, at most; each is left out once, of a search and of a training
# Learning rates of Adam, the one that learns fastest first; measured in benchmarks/results/lora_baseline.md
LORA_RATES = (5e-3, 2e-3)
LORA_SHARE = 0.35
LORA_STEPS = 60  # the most along one path
FEWEST_STEPS = 15  # of a path; with fewer, the left-out loss is still falling on every base measured
FIXED_STEPS = 20
# From this many parameters on (flan-t5-large has 783 million) there is only the lower learning rate: a second
# path costs minutes there, and large bases want the lower rate.
LARGE_BASE_PARAMETERS = 500_000_000

TUNED_RATES = (1e-3,)  # the factors are near a minimum already
TUNED_SHARE = 0.25
TUNED_STEPS = 30
TUNED_RANK_MAX = 64  # a composition of a higher rank is cut to it before it is tuned

# By method: how much training a scored candidate of the search stands for; 1 for every other method.
TRAINING_PER_CANDIDATE = {"auto": 7.5, "exact": 12.5, "svd": 12.5}

PATIENCE = 8  # steps of a path without a lower left-out loss, after which it ends
# It also ends, from so many steps on, where it would stay above the lowest loss of another learning rate
# if it kept falling as over the last steps.
FEWEST_TO_JUDGE = 15
FALL_OVER = 8


@dataclass(frozen=True)
class TrainingPlan:
    """What a training may do.

    Attributes:
        rates: learning rates to choose from, in the order of trying; one path is trained at each that the
            work pays for.
        steps: the most along each path; 0 if there is no path.
        work: the most that all paths and the adapter itself may cost, in scored candidates.
        why: why it is less than usual, for the reader; may be empty.
        fixed_steps: of the adapter where there is no path to choose them by.
    """

    rates: tuple[float, ...]
    steps: int
    work: float = math.inf
    why: str = ""
    fixed_steps: int = 0

    def passes(self, n_fits: int) -> int:
        """Return the most work of it, in scored candidates.

        Args:
            n_fits: the folds, each left out of one LoRA.
        """
        if not self.steps:
            return GRADIENT_STEP_COST * self.fixed_steps
        all_paths = path_passes(n_fits, self.steps) * len(self.rates)
        return math.floor(min(self.work, all_paths + last_passes(n_fits, self.steps)))

    def steps_after(self, done: Sequence[int], n_fits: int) -> int:
        """Return the most steps of the next path, after paths of so many steps; 0 if it is not worth it."""
        if not done:
            return self.steps
        spent = sum(path_passes(n_fits, steps) for steps in done)
        steps = most_steps(self.work - spent, n_fits, self.steps)
        return steps if steps >= FEWEST_STEPS else 0


def words_of_steps(steps: int, rates: Sequence[float]) -> str:
    """Return steps and rates in words, such as "45 steps at 0.005 and 0.002"."""
    return f"{count_noun(steps, 'step')} at {as_list([f'{rate:g}' for rate in rates])}"


def path_passes(n_fits: int, steps: int) -> int:
    """Return the work of one path: its gradient steps, and scoring every LoRA at its end."""
    return n_fits * (GRADIENT_STEP_COST * steps + 1)


def last_passes(n_fits: int, steps: int) -> int:
    """Return the work of the adapter that is trained on all examples in the end."""
    return GRADIENT_STEP_COST * steps_on_all(n_fits, steps)


def steps_on_all(n_fits: int, steps: int) -> int:
    """Return the steps on all examples that match so many steps without one fold.

    With more examples a fit may go on for longer before it overfits; each example gets as large a part of
    the steps as before.
    """
    return round(steps * n_fits / (n_fits - 1))


def training_budget(budget: int, method: str) -> int:
    """Return the budget that bounds the trainings, from the search's budget; both in scored candidates."""
    return round(budget * TRAINING_PER_CANDIDATE.get(method, 1.0))


def plan_lora(budget: int, n_fits: int, parameters: int) -> TrainingPlan:
    """Return the plan of the LoRA baseline.

    Args:
        budget: as `training_budget` returns it.
        n_fits: the folds; below 2 there is no left-out loss to choose by.
        parameters: of the base model.
    """
    if n_fits < 2:
        return fixed_plan("there is one example")
    work = LORA_SHARE * budget
    steps = most_steps(work, n_fits, LORA_STEPS)
    if steps < FEWEST_STEPS:
        return fixed_plan("the search is short")
    low = LORA_RATES[-1:]
    if parameters >= LARGE_BASE_PARAMETERS:
        return TrainingPlan(low, steps, work, "one learning rate, as the base is large")
    if 2 * path_passes(n_fits, FEWEST_STEPS) + last_passes(n_fits, FEWEST_STEPS) > work:
        return TrainingPlan(low, steps, work, "one learning rate, as the search is short")
    return TrainingPlan(LORA_RATES, steps, work)


def fixed_plan(reason: str) -> TrainingPlan:
    """Return the plan of a LoRA whose steps nothing chooses, and why."""
    why = f"the steps are not chosen, as {reason}"
    return TrainingPlan(LORA_RATES[-1:], 0, why=why, fixed_steps=FIXED_STEPS)


def plan_tuning(budget: int, n_fits: int) -> TrainingPlan:
    """Return the plan of tuning the composition; `steps` is 0 where it is not tried.

    Args: as of `plan_lora`.
    """
    if n_fits < 2:
        return TrainingPlan(TUNED_RATES, 0, why="one example alone cannot tell when to stop")
    work = TUNED_SHARE * budget
    steps = most_steps(work, n_fits, TUNED_STEPS)
    if steps < 1:
        return TrainingPlan(TUNED_RATES, 0, why="the search is too short to pay for it")
    return TrainingPlan(TUNED_RATES, steps, work)


def most_steps(work: float, n_fits: int, limit: int) -> int:
    """Return the most steps of a path and of the adapter at last that so much work pays for, 0 to `limit`."""
    steps = limit
    while steps > 0 and path_passes(n_fits, steps) + last_passes(n_fits, steps) > work:
        steps -= 1
    return steps
