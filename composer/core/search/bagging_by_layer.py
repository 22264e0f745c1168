"""The default method: an exact sum, found with one weight a module and then freed layer by layer.

The blend of composer.core.search.bagging says which modules the task needs. Started from its fits, weights of
their own for every layer mend within a few short steps what one weight for all layers cannot say;
started from zero they learn a handful of examples by heart instead. Each fit is freed on the shots it
already knows, so the part it left out still tells, without any held-out example, which is better.

Source: weights by layer are LoRA Soups', Prabhakar et al., arXiv:2410.13025, without their softmax.
docs/decisions/0010 has what each move brought, and what was tried and left.
"""

from collections.abc import Sequence

import torch

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.scorer import FewShotScorer
from composer.core.search import bagging
from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.bagging import FoldFits
from composer.core.search.journal import Journal, SearchResult
from composer.core.spec.choices import GRADIENT_STEP_COST

LAYER_STEPS = 25
LAYER_RATE = 0.03
# Freed weights did better even where they looked a little worse on the few tokens that were left out.
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
    """The blend, then its fits freed by layer, if the shots that each left out do not speak against it.

    Args: as of blend.search_blend, which it is when the budget is too small for a bag.
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
    taken, moves = whole_or_freed(scorer, method, journal, whole)
    weights = taken.weights.mean(0)
    if not bagging.loss_of(scorer, method, weights) < base_loss:  # a wild module threw the fits off
        return journal.finish(method.spread(chosen.unsqueeze(0))[0].tolist(), "greedy")
    return journal.finish(weights.tolist(), moves, left_out=taken.left_out_nats.tolist())


def whole_or_freed(
    scorer: FewShotScorer, method: Auto, journal: Journal, whole: FoldFits
) -> tuple[FoldFits, str]:
    """The fits with one weight a module or freed by layer, by their losses on what each left out."""
    freed = freed_by_layer(scorer, method, journal, whole)
    worse_nats = float((freed.left_out_nats - whole.left_out_nats).sum() / scorer.label_tokens.sum())
    if worse_nats > LAYERS_WORSE_NATS:
        spread = FoldFits(method.spread(whole.weights), whole.nats, whole.train_mask)
        return spread, "Adam on parts of the examples, best subsets"
    return freed, "Adam on parts of the examples, best subsets, Adam by layer"


def freed_by_layer(scorer: FewShotScorer, method: Auto, journal: Journal, folds: FoldFits) -> FoldFits:
    """A few steps of each fit with weights of their own for every layer of the modules that any fit uses."""
    used = folds.weights.ne(0).any(0).float().expand(len(folds.weights), -1)
    start = method.spread(folds.weights)
    free = method.spread(used) * method.holders.flatten()
    weights = fit_weights(
        lambda w: scorer.loss_with_gradient(method, w, folds.train_mask),
        ParallelFits(start, free, torch.zeros(len(start))),
        steps=LAYER_STEPS,
        bound=2 * method.bound,  # a module that is already at its bound may still differ between layers
        learning_rate=LAYER_RATE,
        on_weights=lambda w, losses: journal.note(w.mean(0).tolist(), float(losses.mean())),
        journal=journal,
        name="layers",
    )
    return FoldFits(weights, scorer.nats(method, weights), folds.train_mask)


def layers_cost(n_shots: int) -> int:
    """What freeing the layers costs of a budget of scored candidates."""
    n_fits = min(bagging.DEFAULTS.n_folds, n_shots)
    return n_fits * (GRADIENT_STEP_COST * LAYER_STEPS + 1)  # each is scored once more in the end


def planned_auto_steps(budget: int, n_shots: int, n_modules: int) -> int:
    """How many steps `search_auto` will tell of, as far as one can know before."""
    left = budget - layers_cost(n_shots)
    if bagging.bag_steps(left, n_shots, n_modules) < bagging.DEFAULTS.fewest_steps:
        return bagging.steps_within(budget)
    return bagging.planned_bagging_steps(left, n_shots, n_modules) + LAYER_STEPS
