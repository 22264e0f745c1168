"""The default way to find the weights of an exact sum: the average of a bag and of a clean subset.

1. Bag: one dense gradient fit from w = 0 over all modules for each part of the shots left out, with
   a strong pull toward zero, all of them side by side; then their average. Five examples are easily
   learnt by heart, and what the fits learn by heart differs; what the task needs does not.
2. Subset: the best of all choices of at most three among the heaviest modules of the bag, at weight 1.

Which of the two does better differs from task to task. An exact sum is linear in its weights, so
their average is the average of the deltas, and costs nothing.

Source: bagging is Breiman's, Machine Learning 24 (1996). What each part brings was measured on
combinations of skills that are not among the tasks of benchmarks/results/demo_world.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from composer.core.choices import GRADIENT_STEP_COST
from composer.core.combine import ExactSum
from composer.core.objective import LORAHUB_PENALTY, FewShotScorer, token_mean
from composer.core.search import Fits, Found, Journal, OnStep, fit_weights, search_greedy

ADAM_STEPS = 150  # of one dense fit; more of them only learn the shots by heart


@dataclass(frozen=True)
class BlendSettings:
    """How the bag is fitted, and what subsets are tried."""

    parts: int = 5  # that the shots are cut into, each left out of one fit
    penalty: float = 30 * LORAHUB_PENALTY  # once LoraHub's lets the fits learn the shots by heart
    heaviest: int = 6  # modules of the bag that subsets are made of
    largest_subset: int = 3  # more skills than that in one task are rare
    fewest_steps: int = 75  # of a bag; fits cut short are noise, and greedy choice does better
    noise: float = 0.02  # a smaller weight is where the last steps happened to stop


DEFAULTS = BlendSettings()


def search_blend(
    scorer: FewShotScorer,
    method: ExactSum,
    *,
    alone: Sequence[float],
    nothing: float,
    budget: int,
    on_step: OnStep,
    settings: BlendSettings = DEFAULTS,
) -> Found:
    """Average a bag of dense fits and the best subset; see the head of this file.

    Args:
        alone: few-shot losses of each module alone (N,), for a budget too small for a bag: then
            greedy choice and a refit of what it chose.
        nothing: the few-shot loss of none, which the result is never worse than.
    """
    journal = Journal(on_step)
    steps = bag_steps(budget, len(scorer.batch), len(method.stack), settings)
    if steps < settings.fewest_steps:
        return search_greedy_refit(scorer, method, journal, alone=alone, nothing=nothing, budget=budget)

    def score(weights: Tensor) -> Tensor:
        return token_mean(scorer.nats(method, weights), scorer.label_tokens)

    bag = fit_bag(scorer, method, journal, steps, settings).mean(0)
    subset = best_subset(bag, settings, score)
    blended = (bag + subset) / 2
    blended[blended.abs() < settings.noise] = 0.0
    if not float(score(blended.unsqueeze(0))) < nothing:  # a wild module threw the bag off
        blended = subset
    return journal.finish(blended.tolist(), "Adam on parts of the examples, averaged with the best subset")


def search_greedy_refit(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    *,
    alone: Sequence[float],
    nothing: float,
    budget: int,
) -> Found:
    """Half of the budget for the greedy choice, the rest for the weights of what it chose."""
    chosen = search_greedy(
        lambda w: token_mean(scorer.nats(method, w), scorer.label_tokens),
        alone,
        nothing=nothing,
        budget=budget // 2,
        on_step=lambda step: journal.note(step.weights, step.loss),
    )
    start = torch.tensor(chosen.weights)
    free = (start != 0).float() if start.any() else torch.ones_like(start)
    steps = steps_within(budget - budget // 2)
    weights = fit_on_all(
        scorer, method, journal, start=start, free=free, penalty=LORAHUB_PENALTY, steps=steps
    )
    return journal.finish(weights.tolist(), "greedy, Adam")


def search_adam(scorer: FewShotScorer, method: ExactSum, *, budget: int, on_step: OnStep) -> Found:
    """One dense gradient fit from w = 0 with LoraHub's own penalty, of at most ADAM_STEPS."""
    journal = Journal(on_step)
    n = len(method.stack)
    weights = fit_on_all(
        scorer,
        method,
        journal,
        start=torch.zeros(n),
        free=torch.ones(n),
        penalty=LORAHUB_PENALTY,
        steps=adam_steps(budget),
    )
    return journal.finish(weights.tolist(), "Adam")


# --- the budget ---------------------------------------------------------------


def steps_within(budget: int) -> int:
    """Gradient steps that a budget of scored candidates pays for; at least one."""
    return max(1, budget // GRADIENT_STEP_COST)


def adam_steps(budget: int) -> int:
    """Steps of a single dense fit."""
    return min(ADAM_STEPS, steps_within(budget))


def bag_steps(budget: int, n_shots: int, n_modules: int, settings: BlendSettings = DEFAULTS) -> int:
    """Steps of each of the bag's fits, once the scored candidates are paid for."""
    n_scored = 1 + subset_count(min(settings.heaviest, n_modules), settings.largest_subset)
    n_fits = min(settings.parts, n_shots)
    return min(ADAM_STEPS, (budget - n_scored) // (GRADIENT_STEP_COST * n_fits))


def planned_steps(budget: int, n_shots: int, n_modules: int) -> int:
    """How many steps `search_blend` will tell of, one for all fits that run side by side."""
    steps = bag_steps(budget, n_shots, n_modules)
    return steps if steps >= DEFAULTS.fewest_steps else steps_within(budget)


def rate_for(steps: int) -> float:
    """A learning rate that lets a weight get anywhere within so few steps; 0.05 is enough for 150."""
    return min(0.3, max(0.05, 7.5 / steps))


# --- the parts ----------------------------------------------------------------


def parts_left_out(scorer: FewShotScorer, settings: BlendSettings = DEFAULTS) -> Tensor:
    """(parts, n) of 0 and 1: each row leaves out one part of the shots; a single one is kept."""
    n = len(scorer.batch)
    if n == 1:
        return torch.ones(1, 1)
    n_parts = min(settings.parts, n)
    return torch.stack([(torch.arange(n) % n_parts != part).float() for part in range(n_parts)])


def fit_bag(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    steps: int,
    settings: BlendSettings = DEFAULTS,
) -> Tensor:
    """(parts, N): one dense fit for each part left out, side by side; the journal follows their average."""
    shown = parts_left_out(scorer, settings)
    n_fits, n = len(shown), len(method.stack)

    def loss(weights: Tensor) -> Tensor:
        return token_mean(scorer.nats_with_gradient(method, weights), scorer.label_tokens, shown)

    return fit_weights(
        loss,
        Fits(torch.zeros(n_fits, n), torch.ones(n_fits, n), torch.full((n_fits,), settings.penalty)),
        steps=steps,
        learning_rate=rate_for(steps),
        on_weights=lambda weights, losses: journal.note(weights.mean(0).tolist(), float(losses.mean())),
    )


def fit_on_all(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    *,
    start: Tensor,
    free: Tensor,
    penalty: float,
    steps: int,
) -> Tensor:
    """(N,): one fit on all shots from `start`, of the weights that are `free`."""
    fits = Fits(start.unsqueeze(0), free.unsqueeze(0), torch.tensor([penalty]))
    weights = fit_weights(
        lambda w: token_mean(scorer.nats_with_gradient(method, w), scorer.label_tokens),
        fits,
        steps=steps,
        learning_rate=rate_for(steps),
        on_weights=lambda w, losses: journal.note(w[0].tolist(), float(losses[0])),
    )
    return weights[0]


def subset_count(n: int, largest: int) -> int:
    """How many subsets of at most `largest` out of n there are, the empty one included."""
    return sum(1 for size in range(largest + 1) for _ in combinations(range(n), size))


def best_subset(dense: Tensor, settings: BlendSettings, score: Callable[[Tensor], Tensor]) -> Tensor:
    """(N,) of 0 and 1: the subset of the heaviest modules with the lowest few-shot loss at weight 1."""
    heavy = torch.argsort(dense, descending=True, stable=True)[: settings.heaviest].tolist()
    subsets = [s for size in range(settings.largest_subset + 1) for s in combinations(heavy, size)]
    candidates = torch.zeros(len(subsets), len(dense))
    for row, subset in enumerate(subsets):
        candidates[row, list(subset)] = 1.0
    losses = torch.nan_to_num(score(candidates), nan=torch.inf)
    return candidates[int(losses.argmin())]


def left_out_losses(scorer: FewShotScorer, method: ExactSum, *, steps: int = 60) -> Tensor:
    """(n,) nats: each example's cross entropy under weights fitted without its part of the shots."""
    weights = fit_bag(scorer, method, Journal(lambda step: None), steps)
    nats = scorer.nats(method, weights)
    part_of = torch.arange(len(scorer.batch)) % len(weights)
    return nats[part_of, torch.arange(len(scorer.batch))]
