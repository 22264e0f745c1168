"""Bagging: the default search for the weights of an exact sum (stored as `blend`).

1. Greedy choice: choose modules one by one. It is fast, and its result is there if the search is
   stopped early.
2. Bagged fits: cut the examples into folds. For each fold, fit the weights of all modules by Adam from
   w = 0 on the other folds, with a strong penalty. All fits run side by side. Each fit overfits its few
   examples, but each one differently, so their average keeps what the fits have in common.
3. Subsets: for each fit, find the best subset of at most three of its modules with the largest weights,
   each at weight 1, and average it with the fit. Which of the two is better differs from task to task.

The result is the average over the fits. An exact sum is linear in its weights, so the average of
weights gives the average of deltas. Each fit leaves one fold out, so its loss there is evidence where
there are no held-out examples.

Letters of shapes: P fits, N modules, n examples.

Source: bagging is Breiman's, Machine Learning 24 (1996). The effect of each part was measured on
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
from composer.core.search.adam import ADAM_STEPS, ParallelFits, fit_weights, rate_for
from composer.core.search.folds import FoldFits, fold_masks
from composer.core.search.greedy import search_greedy
from composer.core.search.journal import Journal, SearchResult, finite_or_penalty
from composer.core.spec.choices import GRADIENT_STEP_COST, LORAHUB_PENALTY, PUBLISHED_BUDGET
from composer.core.spec.training import FOLDS


@dataclass(frozen=True)
class BaggingSettings:
    """How the bagged fits and their subsets are made."""

    penalty: float = 30 * LORAHUB_PENALTY  # nats per unit of mean|w|; with LoraHub's own the fits overfit
    heaviest: int = 6  # modules with the largest weights in a fit, from which subsets are made
    largest_subset: int = 3  # modules; few tasks need more skills
    fewest_steps: int = 75  # of a bagged fit; with fewer steps greedy choice does better
    noise: float = 0.02  # a weight of smaller size is set to zero: the last steps left it there by chance


DEFAULTS = BaggingSettings()

Note = Callable[[Sequence[float], float], None]  # of a step: weights (N,), loss in nats per label token


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
    """Find the weights of an exact sum by greedy choice, bagged fits and subsets.

    Args:
        scorer: of the n examples.
        method: an exact sum of N modules.
        journal: gets every step.
        single_losses: (N,) few-shot losses of each module alone, in nats per label token.
        base_loss: the few-shot loss of the base model alone, in nats per label token. The few-shot loss of
            the result is never higher.
        budget: the most scored candidates; a gradient step counts as three. If it is too small for bagged
            fits, half of it goes to the greedy choice and the rest to a refit of the chosen modules.
        settings: of the fits and subsets.

    Returns:
        Weights (N,), and with bagged fits also the left-out nats (n,).

    Raises:
        NonFiniteLossError: no step had a finite loss.
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
    if not loss_of(scorer, method, weights) < base_loss:  # a module with huge deltas spoiled the fits
        return journal.finish(chosen.tolist(), "greedy")
    optimizer = "Adam on parts of the examples, averaged with the best subsets"
    return journal.finish(
        weights.tolist(),
        optimizer,
        left_out=folds.left_out_nats.tolist(),
        fold_weights=folds.weights.tolist(),
    )


# --- the budget ---------------------------------------------------------------

GREEDY_BUDGET = PUBLISHED_BUDGET  # scored candidates, as many as LoraHub's own search has


def steps_within(budget: int) -> int:
    """Return the gradient steps that a budget of scored candidates pays for, at least 1."""
    return max(1, budget // GRADIENT_STEP_COST)


def bag_steps(budget: int, n_shots: int, n_modules: int, settings: BaggingSettings = DEFAULTS) -> int:
    """Return the steps of each bagged fit, after the scored candidates are paid for.

    The number is at most ADAM_STEPS, and zero or negative if the budget does not even pay for these.

    Args:
        budget: in scored candidates.
        n_shots: n, the number of examples.
        n_modules: N.
        settings: of the fits and subsets.
    """
    n_fits = min(FOLDS, n_shots)
    subsets = subset_count(min(settings.heaviest, n_modules), settings.largest_subset)
    n_scored = GREEDY_BUDGET + n_fits * (subsets + 1) + 1  # + 1: each fit, and their average, at the end
    return min(ADAM_STEPS, (budget - n_scored) // (GRADIENT_STEP_COST * n_fits))


def planned_bagging_steps(budget: int, n_shots: int, n_modules: int) -> int:
    """Estimate how many steps the search will note in its journal.

    Fits that run side by side note one step together. The few steps of the greedy choice are left out. If
    the budget is too small for bagged fits, half of it goes to the greedy choice and the rest to the refit.
    """
    steps = bag_steps(budget, n_shots, n_modules)
    return steps if steps >= DEFAULTS.fewest_steps else refit_steps(budget)


def refit_steps(budget: int) -> int:
    """Return the gradient steps of the refit after a greedy choice, which gets half of a small budget."""
    return steps_within(budget - budget // 2)


def subset_count(n: int, largest: int) -> int:
    """Return how many subsets of at most `largest` out of n modules there are, the empty one included."""
    return sum(1 for size in range(largest + 1) for _ in combinations(range(n), size))


# --- the parts ----------------------------------------------------------------


def loss_of(scorer: FewShotScorer, method: Method, weights: Tensor) -> float:
    """Return the few-shot loss of one candidate (n_weights,), in nats per label token."""
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
    """Return (N,) of 0 and 1: the modules that greedy search chooses, as a part of a longer search.

    Args:
        scorer: of the examples.
        method: an exact sum of N modules.
        note: called with each step.
        single_losses: (N,) few-shot losses in nats per label token.
        base_loss: the few-shot loss of the base model alone, in nats per label token.
        budget: the most candidates to score.
    """
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
    """Return weights (N,) from a greedy choice and an Adam fit of the chosen modules.

    Half of the budget goes to each. A fit of few steps can end with a higher loss than it had before, so
    the result is the step with the lowest loss of both parts, without penalty.

    Args: as of `search_bagging`; `note` is called with each step.
    """
    best: list[tuple[float, Sequence[float]]] = []

    def note_best(weights: Sequence[float], loss: float) -> None:
        best[:] = (min([*best, (finite_or_penalty(loss), weights)], key=lambda tried: tried[0]),)
        note(weights, loss)

    start = greedy_choice(
        scorer, method, note_best, single_losses=single_losses, base_loss=base_loss, budget=budget // 2
    )
    free = (start != 0).float() if start.any() else torch.ones_like(start)
    steps = refit_steps(budget)
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
    """Return the bagged fits (P, N), each averaged with the best subset of its own modules.

    Scores the P averaged fits on all n examples. `note` is called with each step of the fits.
    """
    train_mask = fold_masks(len(scorer.batch))
    steps = bag_steps(budget, len(scorer.batch), len(method.stack), settings)
    bag = fit_bag(scorer, method, journal, note, train_mask, steps=steps, penalty=settings.penalty)
    weights = (bag + best_subsets(scorer, method, bag, train_mask, settings)) / 2
    weights[weights.abs() < settings.noise] = 0.0
    return FoldFits(weights, scorer.nats(method, weights), train_mask)


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
    """Return (P, N): the Adam fit for each row of the train masks `train_mask` (P, n), all side by side.

    Each step notes the average of the weights and of the losses over the fits.

    Args:
        penalty: nats per unit of mean|w|.
    """
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
    """Return (P, N) of 0 and 1: for each fit the subset with the lowest loss on the examples it saw.

    The subsets are of the modules with the largest weights in the fit, each at weight 1.

    Args:
        scorer: of the n examples.
        method: an exact sum of N modules.
        bag: (P, N) weights of the fits.
        train_mask: (P, n) train masks.
        settings: of the subsets.
    """
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
    """Return every subset of the modules with the largest of the weights (N,), the empty one included.

    A negative weight is smaller than zero here, whatever its size. The settings say how many modules are
    taken and how large a subset is. Each subset is in ascending order.
    """
    heavy = torch.argsort(weights, descending=True, stable=True)[: settings.heaviest].tolist()
    sizes = range(settings.largest_subset + 1)
    return {subset for size in sizes for subset in combinations(sorted(heavy), size)}
