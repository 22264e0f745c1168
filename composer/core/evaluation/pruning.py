"""Pruning: a composition without the modules that it does not need, its other weights fitted again.

A search gives most modules a small weight. Each of them adds its rank to the adapter, and its author to
the parents, but little to the answers. They are removed backwards: the modules whose removal costs least
first, as many at once as possible, as long as the few-shot loss rises by less than PRUNING_NATS in all and
the loss of the left-out examples does not rise.

docs/decisions/0024 has the measurements. Letters of shapes: N modules, L layers, P fits, n examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.base import Method
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack
from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.folds import fold_masks
from composer.core.search.journal import SearchResult
from composer.core.spec.choices import BUDGET_TO_REFIT

PRUNING_NATS = 0.01  # per label token; the most that the few-shot loss may rise in all
REFIT_STEPS = 10  # of Adam, from the weights that were found
REFITS_MAX = 2  # each costs 150 scored candidates for five fits, a third of the default's whole search
RECOVERABLE_NATS = 0.5  # per label token; a refit seldom makes up for a larger rise
REFIT_RATE = 0.03  # as of the weights by layer
# Methods that sum whole deltas, so that a module can be taken away. ties_svd elects its signs among all
# modules. The others sum factors: no module adds to the rank, and each changes what the others do.
PRUNED_METHODS = ("auto", "exact", "cat", "cat-layers", "svd")


@dataclass(frozen=True)
class Pruning:
    """What is left of a composition.

    Attributes:
        kept: the indices of the modules that are left, in ascending order.
        weights: (n_weights,) of the same method on these modules.
        left_out: (n,) nats of each example under the fit that left it out; None if no fit did.
        rises: by the index of each removed module, how much the few-shot loss rose without it, in nats per
            label token, when it was removed: with the others as they were, before they were fitted again.
    """

    kept: tuple[int, ...]
    weights: tuple[float, ...]
    left_out: tuple[float, ...] | None
    rises: dict[int, float]


@dataclass(frozen=True)
class _Fits:
    """The fits on some of the modules.

    Attributes:
        kept: indices of the modules.
        method: on these modules.
        weights: (P, n_weights); the composition is their mean.
        few_shot: the few-shot loss of the composition, in nats per label token.
        left_out: (n,) nats; None if no fit left an example out.
    """

    kept: tuple[int, ...]
    method: Method
    weights: Tensor
    few_shot: float
    left_out: Tensor | None


def prune(
    scorer: FewShotScorer,
    method: Method,
    found: SearchResult,
    make: Callable[[ModuleStack], Method],
    *,
    budget: int,
) -> Pruning:
    """Remove the modules that the composition does not need, and fit the others again.

    A search that fitted no folds has no left-out loss; then the few-shot loss alone decides. At least one
    module stays.

    Args:
        scorer: of the n examples.
        method: of the composition, on N modules.
        found: the result of the search.
        make: returns the same method on other modules.
        budget: of the search, in scored candidates.
    """
    refits = REFITS_MAX if budget >= BUDGET_TO_REFIT else 0
    return _Pruner(scorer, method, found, make, refits).run()


class _Pruner:
    def __init__(
        self,
        scorer: FewShotScorer,
        method: Method,
        found: SearchResult,
        make: Callable[[ModuleStack], Method],
        refits: int,
    ) -> None:
        self.scorer, self.stack, self.make = scorer, method.stack, make
        self.train_mask = fold_masks(len(scorer.batch))
        weights = torch.tensor([found.weights], dtype=torch.float32)
        has_folds = len(found.fold_weights) > 1
        fits = torch.tensor(found.fold_weights, dtype=torch.float32) if has_folds else weights
        self.start = self._scored(tuple(range(len(method.stack))), method, fits, weights[0])

        self.refits_left = refits

    def run(self) -> Pruning:
        current, rises, needed = self._without_unused(self.start), dict[int, float](), set[int]()
        while (smaller := self._smaller(current, rises, needed)) is not None:
            current = smaller
        weights = self._composition(current.weights)
        left_out = None if current.left_out is None else tuple(current.left_out.tolist())
        return Pruning(current.kept, tuple(float(w) for w in weights), left_out, rises)

    def _composition(self, weights: Tensor) -> Tensor:
        return weights.mean(0)

    def _smaller(self, current: _Fits, rises: dict[int, float], needed: set[int]) -> _Fits | None:
        """Return the fits without some modules, or None if every try is worse.

        Notes the rises of the modules that are removed, and as needed each module whose removal alone is
        worse; such a module is not tried again.
        """
        if len(current.kept) < 2:
            return None
        own = self._rises(current)
        by_rise = sorted(range(len(own)), key=lambda position: (own[position], position))
        order = [position for position in by_rise if current.kept[position] not in needed]
        count = min(len(order), len(own) - 1)
        while count:
            removed = order[:count]
            smaller = self._smaller_by(current, removed)
            if self._is_good(smaller):
                rises.update({current.kept[position]: own[position] for position in removed})
                return smaller
            if count == 1:
                needed.add(current.kept[order.pop(0)])
            count = count // 2 or min(1, len(order))
        return None

    def _smaller_by(self, current: _Fits, removed: Sequence[int]) -> _Fits:
        """Return the fits without some modules, fitted again if that may help and a refit is left."""
        kept = _without(len(current.kept), *removed)
        indices = tuple(current.kept[position] for position in kept)
        method, weights = self._part(current, current.weights, kept)
        plain = self._scored(indices, method, weights)
        hopeless = plain.few_shot > self.start.few_shot + RECOVERABLE_NATS
        if self._is_good(plain) or hopeless or not self.refits_left:
            return plain
        self.refits_left -= 1
        return self._scored(indices, method, self._refitted(method, weights))

    def _rises(self, current: _Fits) -> list[float]:
        """Return how much the few-shot loss rises without each module, in nats per label token."""
        weights = self._composition(current.weights)
        n = len(current.kept)
        if current.method.name == "cat":  # a share of zero has no finite logit
            parts = [self._part(current, weights, _without(n, i)) for i in range(n)]
            nats = torch.cat([self.scorer.nats(*part) for part in parts])
        else:
            without = weights.view(-1, n).repeat(n, 1, 1)
            without[range(n), :, range(n)] = 0.0
            nats = self.scorer.nats(current.method, without.flatten(1))
        losses = token_mean(nats, self.scorer.label_tokens)
        return torch.nan_to_num(losses - current.few_shot, nan=torch.inf).tolist()

    def _part(self, current: _Fits, weights: Tensor, kept: Sequence[int]) -> tuple[Method, Tensor]:
        """Return the method and the weights (P, n_weights) of some of the current modules."""
        n = len(current.kept)
        part = weights.view(-1, current.method.n_weights // n, n)[..., list(kept)].flatten(1)
        return self.make(self.stack.subset([current.kept[position] for position in kept])), part

    def _refitted(self, method: Method, start: Tensor) -> Tensor:
        """Return the weights (P, n_weights) after REFIT_STEPS steps from `start`."""
        mask = self.train_mask if len(start) > 1 else torch.ones(1, self.train_mask.shape[1])
        holders = method.stack.holders().flatten().float()
        is_by_layer = method.n_weights == len(holders)
        free = holders if is_by_layer else torch.ones(method.n_weights)
        return fit_weights(
            lambda w: self.scorer.loss_with_gradient(method, w, mask),
            ParallelFits(start, free.repeat(len(start), 1), torch.zeros(len(start))),
            steps=REFIT_STEPS,
            bound=2 * method.bound,  # as of the weights by layer
            learning_rate=REFIT_RATE,
        )

    def _scored(
        self, kept: tuple[int, ...], method: Method, weights: Tensor, composition: Tensor | None = None
    ) -> _Fits:
        composition = self._composition(weights) if composition is None else composition
        nats = self.scorer.nats(method, torch.cat([composition.unsqueeze(0), weights]))
        left_out = None
        if len(weights) > 1:
            left_out = (nats[1:] * (1 - self.train_mask)).sum(0)
        few_shot = float(token_mean(nats[0], self.scorer.label_tokens))
        return _Fits(kept, method, weights, few_shot, left_out)

    def _is_good(self, tried: _Fits) -> bool:
        if not tried.few_shot < self.start.few_shot + PRUNING_NATS:
            return False
        if tried.left_out is None or self.start.left_out is None:
            return True
        return bool(tried.left_out.sum() <= self.start.left_out.sum())

    def _without_unused(self, fits: _Fits) -> _Fits:
        """Return the same fits without the modules of weight zero in all of them."""
        if fits.method.name == "cat":
            return fits
        n = len(fits.kept)
        used = fits.weights.view(-1, n).ne(0).any(0).nonzero().flatten().tolist() or [0]
        if len(used) == n:
            return fits
        method, weights = self._part(fits, fits.weights, used)
        return _Fits(tuple(used), method, weights, fits.few_shot, fits.left_out)


def _without(n: int, *removed: int) -> list[int]:
    """Return the positions of n modules without those that are removed."""
    return [position for position in range(n) if position not in removed]
