"""How the weights of an exact sum are found by default: bagged fits, each averaged with a clean subset.

1. Greedy choice among the modules: an answer within a moment, which whoever stops early gets.
2. Bag: one dense gradient fit from w = 0 over all modules for each part of the shots left out, with
   a strong pull toward zero, all of them side by side. Five examples are easily learnt by heart, and
   what the fits learn by heart differs; what the task needs does not.
3. Subset: for each fit the best choice of at most three of its heaviest modules, at weight 1, and
   then the average of the two. Which of them does better differs from task to task.

The result is the average over the fits: an exact sum is linear in its weights, so the average of
weights is the average of updates, and costs nothing. Every fit left out one part of the shots, so its
loss there is honest evidence where there are no held-out examples.

Source: bagging is Breiman's, Machine Learning 24 (1996). What each part brings was measured on
combinations of skills that are not among the tasks of benchmarks/results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from composer.core.methods.base import Method
from composer.core.methods.exact import ExactSum
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.greedy import search_greedy
from composer.core.search.journal import Journal, SearchResult, finite_or_penalty
from composer.core.spec.choices import GRADIENT_STEP_COST, LORAHUB_PENALTY, PUBLISHED_BUDGET

ADAM_STEPS = 150  # of one dense fit; more of them only learn the shots by heart


@dataclass(frozen=True)
class BaggingSettings:
    """How the bag is fitted, and what subsets are tried."""

    n_folds: int = 5  # that the shots are cut into, each left out of one fit
    penalty: float = 30 * LORAHUB_PENALTY  # once LoraHub's lets the fits learn the shots by heart
    heaviest: int = 6  # modules of a fit that subsets are made of
    largest_subset: int = 3  # more skills than that in one task are rare
    fewest_steps: int = 75  # of a bag; fits cut short are noise, and greedy choice does better
    noise: float = 0.02  # a smaller weight is where the last steps happened to stop


DEFAULTS = BaggingSettings()


@dataclass(frozen=True)
class FoldFits:
    """P fits, each of which left out one part of the shots.

    Attributes:
        weights: (P, n_weights).
        nats: (P, n) of every shot under every fit.
        train_mask: (P, n) of 1 where a fit saw the shot, else 0.
    """

    weights: Tensor
    nats: Tensor
    train_mask: Tensor

    @property
    def left_out_nats(self) -> Tensor:
        """(n,) nats of each shot under the fit that left it out; of a single shot, which none did, NaN."""
        left_out = 1 - self.train_mask
        return (self.nats * left_out).sum(0) / left_out.sum(0)


Note = Callable[[Sequence[float], float], None]  # of one step: its weights (N,) and its loss


def search_bagging(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    *,
    single_losses: Sequence[float],
    base_loss: float,
    budget: int,
    settings: BaggingSettings = DEFAULTS,
) -> SearchResult:
    """Greedy choice, bag and subsets; see the head of this file.

    Args:
        single_losses: few-shot losses of each module alone (N,), in nats per token.
        base_loss: the few-shot loss of none, which the result is never worse than.
        budget: candidates to score at most, a gradient step counting as three. With too few for a bag:
            greedy choice and a refit of what it chose.
    """
    if bag_steps(budget, len(scorer.batch), len(method.stack), settings) < settings.fewest_steps:
        refitted = greedy_refit(
            scorer,
            method,
            journal,
            journal.note,
            single_losses=single_losses,
            base_loss=base_loss,
            budget=budget,
        )
        return journal.finish(refitted.tolist(), "greedy, Adam")
    chosen = greedy_choice(
        scorer, method, journal.note, single_losses=single_losses, base_loss=base_loss, budget=GREEDY_BUDGET
    )
    folds = fit_folds(scorer, method, journal, journal.note, budget, settings)
    weights = folds.weights.mean(0)
    if not loss_of(scorer, method, weights) < base_loss:  # a wild module threw the fits off
        return journal.finish(chosen.tolist(), "greedy")
    optimizer = "Adam on parts of the examples, averaged with the best subsets"
    return journal.finish(weights.tolist(), optimizer, left_out=folds.left_out_nats.tolist())


# --- the budget ---------------------------------------------------------------

GREEDY_BUDGET = PUBLISHED_BUDGET  # as many as LoraHub's own search scores


def steps_within(budget: int) -> int:
    """Gradient steps that a budget of scored candidates pays for; at least one."""
    return max(1, budget // GRADIENT_STEP_COST)


def adam_steps(budget: int) -> int:
    """Steps of a single dense fit."""
    return min(ADAM_STEPS, steps_within(budget))


def bag_steps(budget: int, n_shots: int, n_modules: int, settings: BaggingSettings = DEFAULTS) -> int:
    """Steps of each of the bag's fits, once the scored candidates are paid for."""
    n_fits = min(settings.n_folds, n_shots)
    subsets = subset_count(min(settings.heaviest, n_modules), settings.largest_subset)
    n_scored = GREEDY_BUDGET + n_fits * (subsets + 1) + 1  # each fit once more in the end, and their average
    return min(ADAM_STEPS, (budget - n_scored) // (GRADIENT_STEP_COST * n_fits))


def planned_bagging_steps(budget: int, n_shots: int, n_modules: int) -> int:
    """How many steps `search_bagging` will tell of, one for all fits that run side by side."""
    steps = bag_steps(budget, n_shots, n_modules)
    return steps if steps >= DEFAULTS.fewest_steps else steps_within(budget)


def rate_for(steps: int) -> float:
    """A learning rate that lets a weight get anywhere within so few steps; 0.05 is enough for 150."""
    return min(0.3, max(0.05, 7.5 / steps))


def subset_count(n: int, largest: int) -> int:
    """How many subsets of at most `largest` out of n there are, the empty one included."""
    return sum(1 for size in range(largest + 1) for _ in combinations(range(n), size))


# --- the parts ----------------------------------------------------------------


def loss_of(scorer: FewShotScorer, method: Method, weights: Tensor) -> float:
    """Nats per token on the shots, of one candidate (n_weights,)."""
    return float(token_mean(scorer.nats(method, weights.unsqueeze(0)), scorer.label_tokens))


def greedy_choice(
    scorer: FewShotScorer,
    method: ExactSum,
    note: Note,
    *,
    single_losses: Sequence[float],
    base_loss: float,
    budget: int,
) -> Tensor:
    """(N,) of 0 and 1: which modules to use, within the steps of a longer search."""
    found = search_greedy(
        lambda weights: token_mean(scorer.nats(method, weights), scorer.label_tokens),
        single_losses,
        base_loss=base_loss,
        budget=budget,
        on_step=lambda step: note(step.weights, step.loss),
    )
    return torch.tensor(found.weights)


def greedy_refit(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    note: Note,
    *,
    single_losses: Sequence[float],
    base_loss: float,
    budget: int,
) -> Tensor:
    """(N,): half of the budget for the greedy choice, the rest for the weights of what it chose.

    Few steps can end worse than they began, so the best of all that was tried is taken.
    """
    best: list[tuple[float, Sequence[float]]] = []

    def note_best(weights: Sequence[float], loss: float) -> None:
        best[:] = (min([*best, (finite_or_penalty(loss), weights)], key=lambda tried: tried[0]),)
        note(weights, loss)

    start = greedy_choice(
        scorer, method, note_best, single_losses=single_losses, base_loss=base_loss, budget=budget // 2
    )
    free = (start != 0).float() if start.any() else torch.ones_like(start)
    steps = steps_within(budget - budget // 2)
    fit_weights(
        lambda w: scorer.loss_with_gradient(method, w),
        ParallelFits(start.unsqueeze(0), free.unsqueeze(0), torch.tensor([LORAHUB_PENALTY])),
        steps=steps,
        learning_rate=rate_for(steps),
        on_weights=lambda w, losses: note_best(w[0].tolist(), float(losses[0])),
        journal=journal,
        name="refit",
    )
    return torch.tensor(best[0][1])


def fit_folds(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    note: Note,
    budget: int,
    settings: BaggingSettings = DEFAULTS,
) -> FoldFits:
    """The bag, each of its fits averaged with the best subset of its own heaviest modules."""
    train_mask = fold_masks(len(scorer.batch), settings.n_folds)
    steps = bag_steps(budget, len(scorer.batch), len(method.stack), settings)
    bag = fit_bag(scorer, method, journal, note, train_mask, steps=steps, penalty=settings.penalty)
    weights = (bag + best_subsets(scorer, method, bag, train_mask, settings)) / 2
    weights[weights.abs() < settings.noise] = 0.0
    return FoldFits(weights, scorer.nats(method, weights), train_mask)


def fold_masks(n_shots: int, parts: int) -> Tensor:
    """(P, n) of 0 and 1: each row leaves out one part of the shots; a single one is kept."""
    if n_shots == 1:
        return torch.ones(1, 1)
    n_parts = min(parts, n_shots)
    return torch.stack([(torch.arange(n_shots) % n_parts != part).float() for part in range(n_parts)])


def fit_bag(
    scorer: FewShotScorer,
    method: ExactSum,
    journal: Journal,
    note: Note,
    train_mask: Tensor,
    *,
    steps: int,
    penalty: float,
) -> Tensor:
    """(P, N): one dense fit for each row of `train_mask`, side by side; their average is noted."""
    n_fits, n = len(train_mask), len(method.stack)
    return fit_weights(
        lambda w: scorer.loss_with_gradient(method, w, train_mask),
        ParallelFits(torch.zeros(n_fits, n), torch.ones(n_fits, n), torch.full((n_fits,), penalty)),
        steps=steps,
        learning_rate=rate_for(steps),
        on_weights=lambda weights, losses: note(weights.mean(0).tolist(), float(losses.mean())),
        journal=journal,
        name="bag",
    )


def best_subsets(
    scorer: FewShotScorer, method: ExactSum, bag: Tensor, train_mask: Tensor, settings: BaggingSettings
) -> Tensor:
    """(P, N) of 0 and 1: for each fit the subset that does best, at weight 1, on the shots it saw."""
    subsets = [subsets_of_heaviest(fit, settings) for fit in bag]
    tried = sorted(set().union(*subsets))
    candidates = torch.zeros(len(tried), bag.shape[1])
    for row, subset in enumerate(tried):
        candidates[row, list(subset)] = 1.0
    nats = scorer.nats(method, candidates)
    best = []
    for seen, own in zip(train_mask, subsets, strict=True):
        losses = torch.nan_to_num(token_mean(nats, scorer.label_tokens, seen), nan=torch.inf)
        rows = [row for row, subset in enumerate(tried) if subset in own]
        best.append(min(rows, key=lambda row: float(losses[row])))
    return candidates[best]


def subsets_of_heaviest(weights: Tensor, settings: BaggingSettings) -> set[tuple[int, ...]]:
    """Every choice of a few of the heaviest modules, none included, each in ascending order."""
    heavy = torch.argsort(weights, descending=True, stable=True)[: settings.heaviest].tolist()
    sizes = range(settings.largest_subset + 1)
    return {subset for size in sizes for subset in combinations(sorted(heavy), size)}
