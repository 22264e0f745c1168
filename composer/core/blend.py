"""The default way to fit the weights of an exact sum: the average of two gradient fits.

1. Dense: from w = 0, over all modules, with a strong pull toward zero.
2. Sparse: the best subset of at most three among the heaviest modules of the first fit,
   at weight 1, its weights then refitted.

Which of the two does better differs from task to task. An exact sum is linear in its
weights, so their average is the average of the two deltas, and costs nothing.
Measured in benchmarks/results/demo_world.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from composer.core.choices import GRADIENT_STEP_COST
from composer.core.combine import ExactSum
from composer.core.objective import LORAHUB_PENALTY, FewShotScorer, token_mean
from composer.core.search import Fits, Found, Journal, OnStep, fit_weights


@dataclass(frozen=True)
class BlendSettings:
    """How the budget is spent, and how hard the fits are pulled toward zero."""

    dense_share: float = 0.65  # of the gradient steps
    dense_penalty: float = 10 * LORAHUB_PENALTY  # ten times LoraHub's did better than once
    sparse_penalty: float = LORAHUB_PENALTY
    heaviest: int = 6  # modules of the dense fit that subsets are made of
    largest_subset: int = 3  # more skills than that in one task are rare
    travel: float = 7.5  # steps x learning rate; 150 steps at 0.05


@dataclass
class GradientFitter:
    """Runs gradient fits of an exact sum on the shots and notes every step in one journal."""

    scorer: FewShotScorer
    method: ExactSum
    journal: Journal
    travel: float = BlendSettings.travel

    def fit(self, fits: Fits, steps: int) -> Tensor:
        """(P, N): the fitted weights; the journal follows the first of the P fits."""

        def loss(weights: Tensor) -> Tensor:
            return token_mean(self.scorer.nats_with_gradient(self.method, weights), self.scorer.label_tokens)

        def note(weights: Tensor, losses: Tensor) -> None:
            self.journal.record(weights[0].tolist(), float(losses[0]))

        return fit_weights(
            loss, fits, steps=steps, learning_rate=rate_for(steps, self.travel), on_weights=note
        )


def rate_for(steps: int, travel: float) -> float:
    """A learning rate that lets a weight get anywhere within so few steps."""
    return min(0.3, max(0.05, travel / max(steps, 1)))


def steps_within(budget: int) -> int:
    """Gradient steps that a budget of scored candidates pays for."""
    return max(1, budget // GRADIENT_STEP_COST)


def search_adam(scorer: FewShotScorer, method: ExactSum, *, budget: int, on_step: OnStep) -> Found:
    """One dense gradient fit from w = 0 with LoraHub's own penalty."""
    fitter = GradientFitter(scorer, method, Journal(on_step))
    n = len(method.stack)
    fits = Fits(torch.zeros(1, n), torch.ones(1, n), torch.tensor([LORAHUB_PENALTY]))
    weights = fitter.fit(fits, steps_within(budget))
    return fitter.journal.finish(weights[0].tolist(), "Adam")


def search_blend(
    scorer: FewShotScorer,
    method: ExactSum,
    *,
    budget: int,
    on_step: OnStep,
    settings: BlendSettings = BlendSettings(),
) -> Found:
    """Average a dense and a sparse fit; see the head of this file."""
    fitter = GradientFitter(scorer, method, Journal(on_step), settings.travel)
    n = len(method.stack)
    subsets = subset_count(min(settings.heaviest, n), settings.largest_subset)
    steps = steps_within(budget - subsets)
    dense_steps = max(1, round(settings.dense_share * steps))
    dense = fitter.fit(
        Fits(torch.zeros(1, n), torch.ones(1, n), torch.tensor([settings.dense_penalty])), dense_steps
    )
    subset = best_subset(
        dense[0], settings, lambda w: token_mean(scorer.nats(method, w), scorer.label_tokens)
    )
    sparse = fitter.fit(
        Fits(subset.unsqueeze(0), subset.unsqueeze(0), torch.tensor([settings.sparse_penalty])),
        max(1, steps - dense_steps),
    )
    blended = (dense[0] + sparse[0]) / 2
    return fitter.journal.finish(blended.tolist(), "Adam, best subset, Adam, averaged")


def subset_count(n: int, largest: int) -> int:
    """How many subsets of 1 to `largest` out of n there are."""
    return sum(1 for size in range(1, largest + 1) for _ in combinations(range(n), size))


def best_subset(dense: Tensor, settings: BlendSettings, score: Callable[[Tensor], Tensor]) -> Tensor:
    """(N,) of 0 and 1: the subset of the heaviest modules with the lowest few-shot loss at weight 1."""
    heavy = torch.argsort(dense, descending=True, stable=True)[: settings.heaviest].tolist()
    subsets = [s for size in range(1, settings.largest_subset + 1) for s in combinations(heavy, size)]
    candidates = torch.zeros(len(subsets), len(dense))
    for row, subset in enumerate(subsets):
        candidates[row, list(subset)] = 1.0
    losses = torch.nan_to_num(score(candidates), nan=torch.inf)
    return candidates[int(losses.argmin())]


def left_out_losses(scorer: FewShotScorer, method: ExactSum, *, steps: int = 60) -> Tensor:
    """(n,) nats: each example's cross entropy under weights fitted on the other n - 1.

    The n fits run side by side.
    """
    n_shots, n = len(scorer.batch), len(method.stack)
    others = 1 - torch.eye(n_shots)

    def loss(weights: Tensor) -> Tensor:
        return token_mean(scorer.nats_with_gradient(method, weights), scorer.label_tokens, others)

    fits = Fits(
        torch.zeros(n_shots, n),
        torch.ones(n_shots, n),
        torch.full((n_shots,), BlendSettings.dense_penalty),
    )
    weights = fit_weights(loss, fits, steps=steps, learning_rate=rate_for(steps, BlendSettings.travel))
    return scorer.nats(method, weights).diagonal()
