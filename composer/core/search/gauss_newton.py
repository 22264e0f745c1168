"""Gauss-Newton on the logits: the default search for the weights of an exact sum (`gauss-newton`).

Around a point the logits at the label positions are nearly linear in the weights. Scoring that point and
one candidate for each weight, moved along it, gives the linear map. Every fit on the map costs
milliseconds, so all folds of the examples are left out in turn, one from each fit. In turn:

1. Expand: score a point and, for each module, a candidate moved along its weight. The first point is the
   base model alone, and each module has weight 1 in its candidate: those that the task needs end near it.
   Later points are the mean of the fits, and the weights of the modules they use are moved back in turn.
2. Step: each fit finds its best weights on the map, within a trust region. All are scored, which says
   whether they are better in truth; and what they changed corrects the map (Broyden's rule).
3. Average: each fit is averaged with the best subset of at most three of its heaviest modules, each at
   weight 1. The map proposes a few, and those are scored. Which of the two is better differs by task, and
   the average is the better place to expand around; but where it is far worse on what the fits left out,
   weight 1 is too much of these modules, the fits stay as they are, and there are no further averages.

For the method auto the modules that one fit alone uses are removed, then others one after the other on
the map, as far as scoring says that the fits are no worse. A few Adam steps of each fit with weights by
layer follow. The result is the mean of the fits, and each fit's loss on the fold that it left out is
evidence where there are no held-out examples. Only the weights by layer need gradients.

Letters of shapes: F fits, N modules, T label tokens, K columns of logits, n examples.

Source: Levenberg, Quarterly of Applied Mathematics 2 (1944), and Schraudolph, Neural Computation 14 (2002);
bagging is Breiman's, Machine Learning 24 (1996); keeping what several fits agree on is Meinshausen and
Bühlmann's stability selection, J. R. Statist. Soc. B 72 (2010). docs/decisions has what was measured and
dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.label_logits import LabelLogits
from composer.core.model.scorer import FewShotScorer, mean_size, token_mean
from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.folds import FoldFits, fold_masks
from composer.core.search.greedy import search_greedy
from composer.core.search.journal import Journal, SearchResult
from composer.core.search.linear_map import difference_quotient, fit_on_map, secant_update, times
from composer.core.spec.choices import GRADIENT_STEP_COST, LORAHUB_PENALTY


@dataclass(frozen=True)
class GaussNewtonSettings:
    """How the fits are made."""

    penalty: float = (
        60 * LORAHUB_PENALTY
    )  # nats per unit of mean|w|; with less the fits are dense and overfit
    first_length: float = 1.0  # of the move along each weight that gives the first map
    length: float = -0.3  # of that move in later maps, along the weight of a module that the fits use
    small_length: float = 0.1  # and along the weight of one they do not use
    damping: float = 0.3  # λ at the start, nats per unit of squared distance
    easier: float = 3.0  # λ is divided by it after a step that was better in truth
    harder: float = 5.0  # and multiplied by it after one that was not
    steps: int = 2  # between two expansions
    noise: float = 0.03  # a weight of smaller size is set to zero
    expansions: int = 5  # at most; later ones change little
    heaviest: int = 6  # modules with the largest weights in a fit, from which subsets are made
    largest_subset: int = 3  # modules; few tasks need more skills
    subsets: int = 3  # of each fit, best on the map, that are scored
    # Per label token, left out; averages, and fits without the modules that one of them uses, are refused if
    # they are worse by more.
    averages_worse_nats: float = 0.5
    removed_from: int = 24  # heaviest modules; a lighter one is removed without a fit
    removed_to: int = 6  # modules at least; with fewer the held-out answers became worse
    smaller_sets: tuple[int, ...] = (
        0,
        1,
        3,
        7,
    )  # scored, the smallest first: so many more modules than it has
    smaller_worse_nats: float = 0.05  # per label token, on the examples that a fit sees
    layer_share: float = 0.36  # of the budget, at most, for the steps with weights by layer
    layer_steps: int = 25  # at most
    fewest_layer_steps: int = 4  # fewer are not worth it
    layer_reach: float = 0.4  # the learning rate times the steps: how far a weight can go
    # Per label token. Weights by layer were better even where their left-out loss, on a few tokens, was a
    # little higher.
    layers_worse_nats: float = 0.5


DEFAULTS = GaussNewtonSettings()


def search_gauss_newton(
    scorer: FewShotScorer,
    method: ExactSum | Auto,
    journal: Journal,
    *,
    single_losses: Sequence[float],
    base_loss: float,
    budget: int,
    settings: GaussNewtonSettings = DEFAULTS,
) -> SearchResult:
    """Find the weights of an exact sum, or the weights by layer of the method auto.

    Args:
        scorer: of the n examples.
        method: an exact sum of N modules, or auto on N modules and L layers.
        journal: gets every step: the mean of the fits and its few-shot loss.
        single_losses: (N,) few-shot losses of each module alone, in nats per label token.
        base_loss: the few-shot loss of the base model alone, in nats per label token. The few-shot loss of
            the result is never higher.
        budget: the most scored candidates; a gradient step counts as three. If it is too small for a map
            and a step on it, it goes to greedy search. If it is too small for a map of all modules, only
            those with the lowest single losses take part.
        settings: of the fits.

    Returns:
        Weights (N,), or (L * N,) for auto, and with fits also theirs and the left-out nats (n,).

    Raises:
        NonFiniteLossError: no step had a finite loss.
    """
    search = _Search(scorer, method, journal, single_losses, base_loss, settings)
    if budget < smallest_map(search.n_fits):
        return search.greedy(budget)
    search.note_best_single()
    fits = search.fit_modules(budget - search.layers_cost(budget))
    if search.layer_steps(budget, budget - fits.spent - search.removal_cost()):
        search.remove_modules(fits)
    found, moves, loss = search.result_of(fits), "Gauss-Newton on the logits", journal.steps[-1].loss
    steps = search.layer_steps(budget, budget - fits.spent)
    if steps:
        found, moves = search.choose_layers(found, steps)
        loss = search.loss_of(found.weights.mean(0))
    weights = found.weights.mean(0)
    if not loss < base_loss:  # a module with huge deltas spoiled the fits
        return journal.finish(journal.steps[0].weights, "the best single module or none")
    return journal.finish(
        weights.tolist(),
        moves,
        left_out=found.left_out_nats.tolist(),
        fold_weights=found.weights.tolist(),
    )


# --- the budget ---------------------------------------------------------------


def smallest_map(n_fits: int) -> int:
    """Return what a map of one module and a step on it cost, in scored candidates; their mean is one."""
    return 1 + 1 + n_fits + 1


def steps_by_layer(budget: int, left: int, n_fits: int, settings: GaussNewtonSettings = DEFAULTS) -> int:
    """Return how many steps with weights by layer `left` candidates of a budget pay for; 0 if too few."""
    cost = GRADIENT_STEP_COST * n_fits + 1  # 1: the mean of the fits is scored
    steps = min(settings.layer_steps, (left - n_fits - 1) // cost)
    planned = int(settings.layer_share * budget) // cost
    return steps if min(steps, planned) >= settings.fewest_layer_steps else 0


def planned_steps(budget: int, n_shots: int, n_modules: int, *, by_layer: bool) -> int:
    """Estimate how many steps the search will note in its journal.

    Args:
        budget: in scored candidates.
        n_shots: n, the number of examples.
        n_modules: N.
        by_layer: whether the method has weights by layer.
    """
    n_fits = len(fold_masks(n_shots))
    share = int(DEFAULTS.layer_share * budget) if by_layer else 0
    # of one expansion
    usual = (n_fits + 1) * (DEFAULTS.steps + 1) + n_fits + min(n_modules, DEFAULTS.heaviest)
    expansions = min(DEFAULTS.expansions, 1 + max(0, budget - share - n_modules) // usual)
    left = budget - n_modules - expansions * usual
    layers = steps_by_layer(budget, left, n_fits) if by_layer else 0
    return 2 + expansions * (DEFAULTS.steps + 1) + (layers and layers + 1)


# --- the parts ----------------------------------------------------------------


@dataclass
class MapFits:
    """F fits and their common map. All tensors are fp32, so that a stored state is exact.

    Attributes:
        weights: (F, N).
        logits: (F, T, K) of each fit, as scored.
        jacobian: (T, K, N).
        damping: λ (F,).
        spent: scored candidates so far.
        expansions: how many maps were made.
        averages_help: False once averages with subsets were far worse than the fits.
    """

    weights: Tensor
    logits: Tensor
    jacobian: Tensor
    damping: Tensor
    spent: int
    expansions: int
    averages_help: bool = True

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], expansions: int) -> "MapFits":
        """Return the fits that `tensors` stored."""
        return cls(
            tensors["weights"].clone(),
            tensors["logits"].clone(),
            tensors["jacobian"].clone(),
            tensors["damping"].clone(),
            int(tensors["spent"]),
            expansions,
            bool(tensors["averages_help"]),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, to be stored as a state."""
        return {
            "weights": self.weights,
            "logits": self.logits,
            "jacobian": self.jacobian,
            "damping": self.damping,
            "spent": torch.tensor(self.spent),
            "averages_help": torch.tensor(float(self.averages_help)),
        }


class _Search:
    """One search: what it scores with, and its parts."""

    def __init__(
        self,
        scorer: FewShotScorer,
        method: ExactSum | Auto,
        journal: Journal,
        single_losses: Sequence[float],
        base_loss: float,
        settings: GaussNewtonSettings,
    ) -> None:
        self.scorer, self.method, self.journal, self.settings = scorer, method, journal, settings
        self.exact = ExactSum(method.stack)
        self.single_losses, self.base_loss = single_losses, base_loss
        self.train_mask = fold_masks(len(scorer.batch))
        self.n_fits, self.n = len(self.train_mask), len(method.stack)
        self.tokens = scorer.label_tokens
        self.order = sorted(range(self.n), key=lambda i: (self._single(i), i))  # the best alone first

    def whole(self, weights: Tensor) -> Tensor:
        """Return the method's weights (P, n_weights) from one weight per module (P, N)."""
        return self.method.spread(weights) if isinstance(self.method, Auto) else weights

    def note(self, weights: Tensor, loss: float) -> None:
        """Note one step: weights (N,) by module, loss in nats per label token."""
        self.journal.note(self.whole(weights.unsqueeze(0))[0].tolist(), loss)

    def loss_of(self, weights: Tensor) -> float:
        """Return the few-shot loss of weights (n_weights,), in nats per label token."""
        return float(
            token_mean(self.scorer.nats(self.method, weights.unsqueeze(0)), self.scorer.label_tokens)
        )

    def note_best_single(self) -> None:
        """Note the best module alone, or none, as the first step; a search stopped then has at least that."""
        best = min(range(self.n), key=lambda i: self._single(i))
        weights = torch.zeros(self.n)
        if self._single(best) < self.base_loss:
            weights[best] = 1.0
        self.note(weights, min(self._single(best), self.base_loss))

    def _single(self, i: int) -> float:
        loss = float(self.single_losses[i])
        return loss if loss == loss else torch.inf

    def greedy(self, budget: int) -> SearchResult:
        """Return the result of greedy search, for a budget that is too small for a map."""
        search_greedy(
            lambda weights: token_mean(self.scorer.nats(self.exact, weights), self.scorer.label_tokens),
            self.single_losses,
            base_loss=self.base_loss,
            budget=budget,
            on_step=lambda step: self.note(torch.tensor(step.weights), step.loss),
        )
        return self.journal.finish(self.journal.best.weights, "greedy")

    # --- fits on the map ------------------------------------------------------

    def fit_modules(self, budget: int) -> MapFits:
        """Return the fits of one weight per module, after at most `budget` scored candidates."""
        self.logits = LabelLogits(self.scorer)
        examples = self.logits.columns.examples
        seen = self.train_mask[:, examples].double()
        self.token_weights = seen / seen.sum(1, keepdim=True)  # (F, T)
        fits = self.resumed() or self.first_map(budget)
        while True:
            for _ in range(self.settings.steps):
                if fits.spent + self.n_fits + 1 > budget:
                    return fits
                self.step(fits)
            affordable = (budget - fits.spent - 1) // self.n_fits - 1  # the averages are scored too
            if affordable < 1:
                return fits
            if fits.averages_help:
                self.average_with_subsets(fits, min(affordable, self.settings.subsets))
            used = self.used(fits) or self.order  # where weight 1 is too much of each, a little may help
            later = self.settings.steps * (self.n_fits + 1) + 2 * self.n_fits + 1  # steps, then an average
            room = budget - fits.spent - 1 - later
            if fits.expansions == self.settings.expansions or room < max(1, len(used) // 2):
                return fits
            self.expand(fits, sorted(used[:room]))

    def resumed(self) -> MapFits | None:
        """Return the fits after the last expansion on record; None if there is none."""
        T, K = self.logits.at_base.shape
        shapes = {
            "weights": torch.empty(self.n_fits, self.n),
            "logits": torch.empty(self.n_fits, T, K),
            "jacobian": torch.empty(T, K, self.n),
            "damping": torch.empty(self.n_fits),
            "spent": torch.empty(()),
            "averages_help": torch.empty(()),
        }
        state = self.journal.resume("map", shapes)
        return None if state is None else MapFits.of(state.tensors, state.step)

    def first_map(self, budget: int) -> MapFits:
        """Return the fits at w = 0, with the map of the modules that the budget allows, best alone first."""
        length = self.settings.first_length
        taken = sorted(self.order[: budget - 1 - self.n_fits - 1])
        trials = torch.zeros(len(taken), self.n)
        trials[range(len(taken)), taken] = length
        around = self.logits.at_base
        jacobian = torch.zeros(*around.shape, self.n)
        jacobian[..., taken] = difference_quotient(self.logits.of(self.exact, trials), around, length)
        fits = MapFits(
            torch.zeros(self.n_fits, self.n),
            around.repeat(self.n_fits, 1, 1),
            jacobian,
            torch.full((self.n_fits,), self.settings.damping),
            1 + len(taken),
            1,
        )
        self.journal.keep("map", 1, fits.tensors())
        return fits

    def expand(self, fits: MapFits, used: Sequence[int]) -> None:
        """Make the map anew around the mean of the fits, along the modules `used`; in place."""
        centre, lengths = fits.weights.mean(0), self.settings
        moves = torch.where(centre != 0, lengths.length, lengths.small_length)[list(used)]
        trials = centre.repeat(1 + len(used), 1)
        trials[range(1, 1 + len(used)), used] += moves
        logits = self.logits.of(self.exact, trials)
        fits.jacobian[..., used] = difference_quotient(logits[1:], logits[0], moves.view(-1, 1, 1))
        fits.spent += len(trials)
        fits.expansions += 1
        self.journal.keep("map", fits.expansions, fits.tensors())

    def used(self, fits: MapFits) -> list[int]:
        """Return the modules that at least one fit uses, the heaviest first."""
        sizes = fits.weights.abs().mean(0)
        return torch.argsort(sizes, descending=True, stable=True)[: int(sizes.count_nonzero())].tolist()

    def step(self, fits: MapFits) -> None:
        """Move each fit to its best weights on the map, if they are better in truth; in place.

        What the moves changed corrects the map in any case. A fit that got better trusts the map further the
        next time, one that did not less far.
        """
        trials = fit_on_map(
            fits.logits.double(),
            fits.jacobian.double(),
            self.logits.columns.labels,
            self.token_weights,
            fits.weights.double(),
            damping=fits.damping.double(),
            penalty=self.settings.penalty,
            bound=self.exact.bound,
        ).float()
        trials[trials.abs() < self.settings.noise] = 0.0
        logits = self.logits.of(self.exact, trials)
        fits.spent += len(trials)
        fits.jacobian = self.corrected(fits, trials, logits)
        gains = self.objective(fits.logits, fits.weights) - self.objective(logits, trials)
        better = gains > 0  # False for NaN
        eased, hardened = fits.damping / self.settings.easier, fits.damping * self.settings.harder
        fits.damping = torch.where(better, eased, hardened)
        fits.weights[better], fits.logits[better] = trials[better], logits[better]
        self.note_mean(fits)

    def note_mean(self, fits: MapFits) -> None:
        """Score the mean of the fits and note it as a step."""
        mean = fits.weights.mean(0)
        self.note(mean, float(token_mean(self.scorer.nats(self.exact, mean.unsqueeze(0)), self.tokens)))
        fits.spent += 1

    def corrected(self, fits: MapFits, trials: Tensor, logits: Tensor) -> Tensor:
        """Return the map (T, K, N) corrected by what the trials (F, N) changed; NaN corrects nothing."""
        finite = logits.isfinite().flatten(1).all(1)
        moves, changes = (trials - fits.weights)[finite], (logits - fits.logits)[finite]
        return secant_update(fits.jacobian.double(), moves.double(), changes.double()).float()

    def losses(self, logits: Tensor) -> Tensor:
        """Return the loss (F,) of each fit on the examples that it sees, for logits (F, T, K)."""
        return (self.logits.columns.token_nats(logits.double()) * self.token_weights).sum(-1)

    def left_out_loss(self, logits: Tensor) -> float:
        """Return the loss of what each fit left out, in nats per label token, for logits (F, T, K).

        It is 0 where no fit leaves anything out.
        """
        nats = self.logits.columns.token_nats(logits.double())
        left_out = self.token_weights == 0
        return float(nats[left_out].sum() / left_out.sum()) if left_out.any() else 0.0

    def objective(self, logits: Tensor, weights: Tensor) -> Tensor:
        """Return what a fit minimizes, (F,): its loss and the penalty on its weights (F, N)."""
        return self.losses(logits) + self.settings.penalty * mean_size(weights)

    # --- subsets --------------------------------------------------------------

    def average_with_subsets(self, fits: MapFits, count: int) -> None:
        """Average each fit with the best of its subsets, and score it again; in place.

        The best is chosen among `count` subsets by the examples that the fit sees. The trust regions start
        anew. Averages that are far worse on what the fits left out are refused.
        """
        proposed = [self.best_subsets_on_map(fits, row, count) for row in range(self.n_fits)]
        tried = sorted(set().union(*proposed))
        candidates = torch.stack([self.subset_weights(subset) for subset in tried])
        nats = self.logits.columns.token_nats(self.logits.of(self.exact, candidates).double())
        best = []
        for seen, own in zip(self.token_weights, proposed, strict=True):
            losses = torch.nan_to_num((nats * seen).sum(-1), nan=torch.inf)
            best.append(min((r for r, subset in enumerate(tried) if subset in own), key=losses.__getitem__))
        averages = (fits.weights + candidates[best]) / 2
        averages[averages.abs() < self.settings.noise] = 0.0
        logits = self.logits.of(self.exact, averages)
        worse = self.left_out_loss(logits) - self.left_out_loss(fits.logits)
        fits.averages_help = worse <= self.settings.averages_worse_nats  # False for NaN
        if fits.averages_help:
            fits.weights, fits.logits = averages, logits
        fits.damping = torch.full((self.n_fits,), self.settings.damping)
        fits.spent += len(candidates) + self.n_fits
        self.note_mean(fits)

    def best_subsets_on_map(self, fits: MapFits, row: int, count: int) -> list[tuple[int, ...]]:
        """Return `count` subsets of one fit's heaviest modules, those with the lowest losses on the map."""
        subsets = subsets_of_heaviest(fits.weights[row], self.settings)
        moves = torch.stack([self.subset_weights(subset) for subset in subsets]) - fits.weights[row]
        logits = fits.logits[row] + torch.einsum("tkn,sn->stk", fits.jacobian, moves)
        losses = (self.logits.columns.token_nats(logits.double()) * self.token_weights[row]).sum(-1)
        return [subsets[i] for i in losses.argsort(stable=True)[:count].tolist()]

    def subset_weights(self, subset: Sequence[int]) -> Tensor:
        """Return (N,): 1 for each module of a subset, else 0."""
        weights = torch.zeros(self.n)
        weights[list(subset)] = 1.0
        return weights

    # --- smaller sets ---------------------------------------------------------

    def removal_cost(self) -> int:
        """Return what `remove_modules` costs at most, in scored candidates."""
        return (1 + self.n_fits) + len(self.settings.smaller_sets) * self.n_fits + 1

    def remove_modules(self, fits: MapFits) -> None:
        """Remove the modules that one fit alone uses, then those that the fits do not need; in place."""
        self.remove_used_once(fits)
        self.remove_unneeded(fits)

    def remove_used_once(self, fits: MapFits) -> None:
        """Keep the modules that at least two fits use, and fit those again on the map; in place.

        What one fit alone uses, the others were better without: it is chance, and gets as many weights by
        layer as a module that all of them use.
        """
        uses = fits.weights.count_nonzero(0)
        agreed = (uses >= min(2, self.n_fits)).nonzero().flatten().tolist()
        if not agreed or len(agreed) == int(uses.count_nonzero()):
            return
        weights = self.fit_some(fits, agreed)
        logits = self.logits.of(self.exact, weights)
        fits.spent += len(weights)
        worse = self.left_out_loss(logits) - self.left_out_loss(fits.logits)
        if worse <= self.settings.averages_worse_nats:  # False for NaN
            fits.weights, fits.logits = weights, logits
            self.note_mean(fits)

    def remove_unneeded(self, fits: MapFits) -> None:
        """Take a smaller set of modules, if scoring says that the fits on it are no worse; in place.

        They are no worse if their loss on what they left out is not higher, and their loss on what they see
        hardly. The smallest such set is taken of those that are scored.
        """
        limits = (
            self.left_out_loss(fits.logits),
            self.seen_loss(fits.logits) + self.settings.smaller_worse_nats,
        )

        def is_good(logits: Tensor) -> bool:  # False for NaN
            return self.left_out_loss(logits) <= limits[0] and self.seen_loss(logits) <= limits[1]

        smaller = [w for w in self.smaller_on_map(fits) if is_good(self.on_map(fits, w))]
        for more in self.settings.smaller_sets:
            if more >= len(smaller):
                return
            weights = smaller[-1 - more]
            logits = self.logits.of(self.exact, weights)
            fits.spent += len(weights)
            if is_good(logits):
                fits.weights, fits.logits = weights, logits
                self.note_mean(fits)
                return

    def smaller_on_map(self, fits: MapFits) -> list[Tensor]:
        """Return the fits (F, N) on smaller and smaller sets of modules, as the map has them.

        Removed is each time the module without which the fits, made again, are best on what they left out.
        """
        kept, found = self.used(fits)[: self.settings.removed_from], []
        while len(kept) > self.settings.removed_to:
            tried = [self.fit_some(fits, [m for m in kept if m != removed]) for removed in kept]
            losses = [self.left_out_loss(self.on_map(fits, weights)) for weights in tried]
            best = losses.index(min(losses))
            found.append(tried[best])
            del kept[best]
        return found

    def fit_some(self, fits: MapFits, kept: list[int]) -> Tensor:
        """Return the best weights (F, N) on the map with only the modules `kept`."""
        start = torch.zeros_like(fits.weights)
        start[:, kept] = fits.weights[:, kept]
        weights = torch.zeros_like(start)
        weights[:, kept] = fit_on_map(
            self.on_map(fits, start).double(),
            fits.jacobian[..., kept].double(),
            self.logits.columns.labels,
            self.token_weights,
            start[:, kept].double(),
            damping=fits.damping.double(),
            penalty=self.settings.penalty * len(kept) / self.n,  # the same for each module
            bound=self.exact.bound,
        ).float()
        weights[weights.abs() < self.settings.noise] = 0.0
        return weights

    def on_map(self, fits: MapFits, weights: Tensor) -> Tensor:
        """Return the logits (F, T, K) that the map has for weights (F, N)."""
        return fits.logits + times(fits.jacobian, weights - fits.weights)

    def seen_loss(self, logits: Tensor) -> float:
        """Return the mean loss of the fits on the examples that they see, for logits (F, T, K)."""
        return float(self.losses(logits).mean())

    # --- the result and the layers --------------------------------------------

    def result_of(self, fits: MapFits) -> FoldFits:
        """Return the fits with the method's own weights (F, n_weights) and the nats (F, n) by example."""
        nats = self.logits.columns.token_nats(fits.logits)
        by_example = torch.zeros(self.n_fits, len(self.scorer.batch))
        by_example = by_example.index_add(1, self.logits.columns.examples, nats)
        return FoldFits(self.whole(fits.weights), by_example, self.train_mask)

    def layers_cost(self, budget: int) -> int:
        """Return what is kept of a budget for the steps with weights by layer, in scored candidates."""
        share = int(self.settings.layer_share * budget)
        return share if self.layer_steps(budget, share) else 0

    def layer_steps(self, budget: int, left: int) -> int:
        """Return how many steps with weights by layer `left` candidates of the budget pay for."""
        if not isinstance(self.method, Auto):
            return 0
        return steps_by_layer(budget, left, self.n_fits, self.settings)

    def choose_layers(self, folds: FoldFits, steps: int) -> tuple[FoldFits, str]:
        """Return the fits with weights by layer, or as they are, and the name of the optimizer.

        One weight per module is taken only if the left-out loss of the weights by layer is higher by more
        than `layers_worse_nats` per label token.
        """
        freed = self.free_layers(folds, steps)
        worse = float((freed.left_out_nats - folds.left_out_nats).sum() / self.scorer.label_tokens.sum())
        if worse > self.settings.layers_worse_nats:
            return folds, "Gauss-Newton on the logits"
        return freed, "Gauss-Newton on the logits, Adam by layer"

    def free_layers(self, folds: FoldFits, steps: int) -> FoldFits:
        """Return the fits after a few Adam steps with weights by layer, (F, L * N), without penalty.

        Only modules that at least one fit uses get weights by layer, and only in layers that they change.
        """
        assert isinstance(self.method, Auto)
        method = self.method
        used = folds.weights.view(-1, *method.holders.shape).ne(0).any(0).any(0)  # (N,)
        free = (used * method.holders).float().flatten().expand_as(folds.weights)
        weights = fit_weights(
            lambda w: self.scorer.loss_with_gradient(method, w, folds.train_mask),
            ParallelFits(folds.weights, free, torch.zeros(len(free))),
            steps=steps,
            bound=2 * method.bound,  # so that a module at the bound can have a larger weight in some layers
            learning_rate=self.settings.layer_reach / steps,
            on_weights=lambda w, losses: self.journal.note(w.mean(0).tolist(), self.loss_of(w.mean(0))),
            journal=self.journal,
            name="layers",
        )
        return FoldFits(weights, self.scorer.nats(method, weights), folds.train_mask)


def subsets_of_heaviest(weights: Tensor, settings: GaussNewtonSettings) -> list[tuple[int, ...]]:
    """Return every subset of the modules with the largest of the weights (N,), the empty one included.

    A negative weight is smaller than zero here, whatever its size. The settings say how many modules are
    taken and how large a subset is. Each subset is in ascending order.
    """
    heavy = sorted(torch.argsort(weights, descending=True, stable=True)[: settings.heaviest].tolist())
    return [s for size in range(settings.largest_subset + 1) for s in combinations(heavy, size)]
