"""The search of the default method: bagging with one weight per module, then weights by layer.

composer.core.search.bagging finds which modules the task needs. From its fits, a few short Adam steps
with a weight for every layer correct what one weight for all layers cannot express. From zero such
weights overfit the few examples. Each fit by layer sees only the examples that its start saw, so the
fold that it leaves out still tells which of the two is better, without held-out examples.

Source: weights by layer are from Prabhakar et al., LoRA Soups, arXiv:2410.13025, here without the
softmax. docs/decisions/0010 has the effect of each part, and what was tried and dropped.
"""

from collections.abc import Sequence

import torch

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.scorer import FewShotScorer
from composer.core.search import bagging
from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.folds import FoldFits
from composer.core.search.journal import Journal, SearchResult
from composer.core.spec.choices import GRADIENT_STEP_COST
from composer.core.spec.training import FOLDS

LAYER_STEPS = 25
LAYER_RATE = 0.03
# Per label token. In the measurements the weights by layer were better even where their left-out loss, on a
# few tokens, was a little higher.
LAYERS_WORSE_NATS = 0.5


def search_auto(
    scorer: FewShotScorer,
    method: Auto,
    journal: Journal,
    *,
    single_losses: Sequence[float],
    base_loss: float,
    budget: int,
) -> SearchResult:
    """Find the weights by layer: bagging, then a few steps of each fit with weights by layer.

    The weights by layer are dropped if their left-out loss is higher by more than LAYERS_WORSE_NATS.

    Args: as of `search_bagging` in composer.core.search.bagging, for the method auto on N modules and L
        layers. If the budget is too small for bagged fits, it does the same as `search_bagging`.

    Returns:
        Weights (L * N,), and with bagged fits also the left-out nats (n,).

    Raises:
        NonFiniteLossError: no step had a finite loss.
    """
    exact = ExactSum(method.stack)

    def note(weights: Sequence[float], loss: float) -> None:
        journal.note(method.spread(torch.tensor([list(weights)]))[0].tolist(), loss)

    n_shots, n = len(scorer.batch), len(method.stack)
    budget_of_blend = budget - layers_cost(n_shots)
    if bagging.bag_steps(budget_of_blend, n_shots, n) < bagging.DEFAULTS.fewest_steps:
        refitted = bagging.greedy_refit(
            scorer, exact, journal, note, single_losses=single_losses, base_loss=base_loss, budget=budget
        )
        return journal.finish(method.spread(refitted.unsqueeze(0))[0].tolist(), "greedy, Adam")
    chosen = bagging.greedy_choice(
        scorer, exact, note, single_losses=single_losses, base_loss=base_loss, budget=bagging.GREEDY_BUDGET
    )
    whole = bagging.fit_folds(scorer, exact, journal, note, budget_of_blend)
    taken, moves = choose_weights_by_layer(scorer, method, journal, whole)
    weights = taken.weights.mean(0)
    if not bagging.loss_of(scorer, method, weights) < base_loss:  # a module with huge deltas spoiled the fits
        return journal.finish(method.spread(chosen.unsqueeze(0))[0].tolist(), "greedy")
    return journal.finish(
        weights.tolist(),
        moves,
        left_out=taken.left_out_nats.tolist(),
        fold_weights=taken.weights.tolist(),
    )


def choose_weights_by_layer(
    scorer: FewShotScorer, method: Auto, journal: Journal, whole: FoldFits
) -> tuple[FoldFits, str]:
    """Return the fits with weights by layer, or with one weight per module, and the name of the optimizer.

    One weight per module is taken only if the left-out loss of the weights by layer is higher by more than
    LAYERS_WORSE_NATS per label token. Both have weights (P, L * N).
    """
    freed = fit_by_layer(scorer, method, journal, whole)
    worse_nats = float((freed.left_out_nats - whole.left_out_nats).sum() / scorer.label_tokens.sum())
    if worse_nats > LAYERS_WORSE_NATS:
        spread = FoldFits(method.spread(whole.weights), whole.nats, whole.train_mask)
        return spread, "Adam on parts of the examples, best subsets"
    return freed, "Adam on parts of the examples, best subsets, Adam by layer"


def fit_by_layer(scorer: FewShotScorer, method: Auto, journal: Journal, folds: FoldFits) -> FoldFits:
    """Return the fits after LAYER_STEPS steps with weights by layer, (P, L * N), without penalty.

    Only modules that at least one fit uses get weights by layer, and only in layers that they change.

    Args:
        folds: the fits with one weight per module, (P, N).
    """
    used = folds.weights.ne(0).any(0).float().expand(len(folds.weights), -1)
    start = method.spread(folds.weights)
    free = method.spread(used) * method.holders.flatten()
    weights = fit_weights(
        lambda w: scorer.loss_with_gradient(method, w, folds.train_mask),
        ParallelFits(start, free, torch.zeros(len(start))),
        steps=LAYER_STEPS,
        bound=2 * method.bound,  # so that a module at the bound can still have a larger weight in some layers
        learning_rate=LAYER_RATE,
        on_weights=lambda w, losses: journal.note(w.mean(0).tolist(), float(losses.mean())),
        journal=journal,
        name="layers",
    )
    return FoldFits(weights, scorer.nats(method, weights), folds.train_mask)


def layers_cost(n_shots: int) -> int:
    """Return what the steps with weights by layer cost of a budget, in scored candidates."""
    n_fits = min(FOLDS, n_shots)
    return n_fits * (GRADIENT_STEP_COST * LAYER_STEPS + 1)  # + 1: each fit is scored once at the end


def planned_auto_steps(budget: int, n_shots: int, n_modules: int) -> int:
    """Estimate how many steps `search_auto` will note, as `planned_auto_steps` of bagging does."""
    left = budget - layers_cost(n_shots)
    if bagging.bag_steps(left, n_shots, n_modules) < bagging.DEFAULTS.fewest_steps:
        return bagging.refit_steps(budget)
    return bagging.planned_bagging_steps(left, n_shots, n_modules) + LAYER_STEPS
