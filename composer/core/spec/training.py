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

from dataclasses import dataclass

from composer.core.spec.choices import GRADIENT_STEP_COST, as_list

FOLDS = 5  # of the examples, at most; each is left out once, of a search and of a training
LORA_RATES = (2e-3, 5e-3)  # learning rates of Adam; measured in benchmarks/results/lora_baseline.md
LORA_SHARE = 0.5
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

PATIENCE = 15  # steps of a path without a lower left-out loss, after which it ends


@dataclass(frozen=True)
class TrainingPlan:
    """What a training may do.

    Attributes:
        rates: learning rates to choose from; one path is trained at each.
        steps: the most along each path; 0 if there is no path.
        why: why it is less than usual, for the reader; may be empty.
        fixed_steps: of the adapter where there is no path to choose them by.
    """

    rates: tuple[float, ...]
    steps: int
    why: str = ""
    fixed_steps: int = 0

    def passes(self, n_fits: int) -> int:
        """Return the most work of it, in scored candidates.

        Args:
            n_fits: the folds, each left out of one LoRA.
        """
        if not self.steps:
            return GRADIENT_STEP_COST * self.fixed_steps
        return path_passes(n_fits, self.steps) * len(self.rates) + last_passes(n_fits, self.steps)

    @property
    def words(self) -> str:
        """Return the steps and rates in words, such as "45 steps at 0.002 and 0.005"."""
        return f"{self.steps} steps at {as_list([f'{rate:g}' for rate in self.rates])}"


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
    low = LORA_RATES[:1]
    if n_fits < 2:
        return TrainingPlan(low, 0, "the steps are not chosen, as there is one example", FIXED_STEPS)
    large = parameters >= LARGE_BASE_PARAMETERS
    steps = most_steps(LORA_SHARE * budget, n_fits, 1 if large else len(LORA_RATES), LORA_STEPS)
    if not large and steps >= FEWEST_STEPS:
        return TrainingPlan(LORA_RATES, steps)
    steps = most_steps(LORA_SHARE * budget, n_fits, 1, LORA_STEPS)
    if steps >= FEWEST_STEPS:
        why = "the base is large" if large else "the search is short"
        return TrainingPlan(low, steps, f"one learning rate, as {why}")
    return TrainingPlan(low, 0, "the steps are not chosen, as the search is short", FIXED_STEPS)


def plan_tuning(budget: int, n_fits: int) -> TrainingPlan:
    """Return the plan of tuning the composition; `steps` is 0 where it is not tried.

    Args: as of `plan_lora`.
    """
    if n_fits < 2:
        return TrainingPlan(TUNED_RATES, 0, "one example alone cannot tell when to stop")
    steps = most_steps(TUNED_SHARE * budget, n_fits, len(TUNED_RATES), TUNED_STEPS)
    if steps < 1:
        return TrainingPlan(TUNED_RATES, 0, "the search is too short to pay for it")
    return TrainingPlan(TUNED_RATES, steps)


def most_steps(passes: float, n_fits: int, n_rates: int, limit: int) -> int:
    """Return the most steps of a path that so much work pays for, 0 to `limit`."""
    steps = limit
    while steps > 0 and n_rates * path_passes(n_fits, steps) + last_passes(n_fits, steps) > passes:
        steps -= 1
    return steps
