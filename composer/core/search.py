"""Searching for the weights: ask, score, tell; or follow the gradient; or add one by one.

The loop is ours. Showing progress and stopping early belong to the caller: `on_step` runs
after each step and may raise to end the search.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nevergrad as ng
import numpy as np
import torch
from torch import Tensor

from composer.core.errors import InvalidJobError, NonFiniteLossError

NON_FINITE_PENALTY = 1e6  # nats; told in place of NaN, which would make a search recommend garbage


@dataclass(frozen=True)
class Step:
    """One step as tried: its weights (N,), its loss, and the lowest loss so far."""

    number: int
    weights: tuple[float, ...]
    loss: float
    best_loss: float


@dataclass(frozen=True)
class Found:
    """The recommended weights (N,), every step in order, and the optimiser that really ran."""

    weights: tuple[float, ...]
    steps: tuple[Step, ...]
    optimizer: str


OnStep = Callable[[Step], None]


class Journal:
    """Keeps the steps of one search and tells the caller of each."""

    def __init__(self, on_step: OnStep) -> None:
        self.steps: list[Step] = []
        self._on_step = on_step
        self._any_finite = False

    def note(self, weights: Sequence[float], loss: float) -> None:
        """Keep one step; a loss that is not finite counts as a large one."""
        self._any_finite |= math.isfinite(loss)
        told = finite(loss)
        best = min(told, self.steps[-1].best_loss) if self.steps else told
        self.steps.append(Step(len(self.steps) + 1, tuple(float(w) for w in weights), told, best))
        self._on_step(self.steps[-1])

    def finish(self, weights: Sequence[float], optimizer: str) -> Found:
        """The result of the search.

        Raises:
            NonFiniteLossError: no step had a finite loss.
        """
        if self.steps and not self._any_finite:
            raise NonFiniteLossError(len(self.steps))
        return Found(tuple(float(w) + 0.0 for w in weights), tuple(self.steps), optimizer)


# --- without gradients --------------------------------------------------------


def search_nevergrad(
    score: Callable[[tuple[float, ...]], float],
    n_modules: int,
    *,
    optimizer: str = "NGOpt",
    budget: int = 40,
    bound: float = 1.5,
    seed: int = 42,
    recorded: Sequence[Step] = (),
    on_step: OnStep = lambda step: None,
) -> Found:
    """Lower `score` by a nevergrad optimiser that starts at w = 0 within ±bound.

    At 20 dimensions, a budget of 40 and one worker NGOpt is COBYLA: it scores w = 0, probes
    one module after the other, and has what is left for joint moves. The name of the
    algorithm that ran is in the result.

    Args:
        score: the loss of one candidate (N,); NaN and infinity count as very large.
        budget: calls of `score`; 40 in LoraHub's own example.
        recorded: the first steps of the same search, cut short before. They are asked again and told
            their losses, not scored again, and the result is the same to the bit.

    Raises:
        InvalidJobError: nevergrad has no such optimiser, or `recorded` is of another search.
        NonFiniteLossError: every loss was NaN or infinite.
    """
    if optimizer not in ng.optimizers.registry:
        raise InvalidJobError(f"nevergrad knows no optimiser {optimizer!r}.")
    space = ng.p.Array(init=np.zeros(n_modules), lower=-bound, upper=bound)
    space.random_state.seed(seed)
    searcher = ng.optimizers.registry[optimizer](space, budget=budget)
    journal = Journal(on_step)
    with quietly_ended(searcher):
        for number in range(budget):
            candidate = searcher.ask()
            weights = tuple(map(float, candidate.value))
            loss = known_loss(recorded[number], weights) if number < len(recorded) else score(weights)
            journal.note(weights, loss)
            searcher.tell(candidate, finite(loss))
        recommended = searcher.provide_recommendation().value
        return journal.finish(recommended, algorithm_name(searcher))


def known_loss(step: Step, weights: tuple[float, ...]) -> float:
    """The recorded loss of these very weights."""
    if step.weights != weights:
        raise InvalidJobError(
            f"Step {step.number} on record is of another search, so this one cannot go on from it."
        )
    return step.loss


def algorithm_name(searcher: Any) -> str:
    """The algorithm that a meta-optimiser chose in the end, behind its own name."""
    names = [searcher.name]
    while (searcher := getattr(searcher, "optim", None)) is not None:
        names.append(searcher.name)
    return " -> ".join(dict.fromkeys(names))


@contextmanager
def quietly_ended(searcher: Any) -> Iterator[None]:
    """End the searcher's own thread on the way out.

    nevergrad runs COBYLA in a thread that waits for the next loss. Left alone by an
    exception it would keep the process from ever ending.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's COBYLA warns about the radius nevergrad gives it
            yield
    finally:
        inner: Any = searcher
        while inner is not None:
            thread = getattr(inner, "_messaging_thread", None)
            if thread is not None:
                thread.stop()
            inner = getattr(inner, "optim", None)


def search_greedy(
    score: Callable[[Tensor], Tensor],
    alone: Sequence[float],
    *,
    nothing: float,
    budget: int,
    partners: int = 6,
    on_step: OnStep = lambda step: None,
) -> Found:
    """Start from the best module alone and add the partner that helps most, while one helps.

    Every module has weight 0 or 1, so the result says plainly which modules the task needs.

    Args:
        score: losses (P,) of candidates (P, N).
        alone: the loss of each module alone, (N,).
        nothing: the loss at w = 0, which any module has to beat.
        budget: the most candidates to score beyond those.
        partners: only so many of the best modules alone are tried as partners.
    """
    n = len(alone)
    order = sorted(range(n), key=lambda i: (finite(alone[i]), i))
    journal = Journal(on_step)
    chosen = torch.zeros(n)
    best, left = finite(nothing), budget
    journal.note(chosen.tolist(), nothing)
    if finite(alone[order[0]]) >= best:
        return journal.finish(chosen.tolist(), "greedy")
    chosen[order[0]], best = 1.0, finite(alone[order[0]])
    journal.note(chosen.tolist(), best)
    while candidates := [i for i in order[: partners + 1] if chosen[i] == 0][:left]:
        trials = chosen.repeat(len(candidates), 1)
        trials[range(len(candidates)), candidates] = 1.0
        losses = [finite(loss) for loss in score(trials).tolist()]
        left -= len(candidates)
        winner = min(range(len(losses)), key=losses.__getitem__)
        if losses[winner] >= best:
            break
        chosen, best = trials[winner], losses[winner]
        journal.note(chosen.tolist(), best)
    return journal.finish(chosen.tolist(), "greedy")


def finite(loss: float) -> float:
    """The loss, or a large number in place of one that is not finite."""
    return loss if math.isfinite(loss) else NON_FINITE_PENALTY


# --- with gradients -----------------------------------------------------------


@dataclass(frozen=True)
class Fits:
    """P gradient fits that run side by side as one batch.

    Attributes:
        start: (P, N) weights to start from.
        free: (P, N) of 0 and 1; a weight that is not free keeps its start.
        penalty: (P,) nats per unit of mean|w|.
    """

    start: Tensor
    free: Tensor
    penalty: Tensor


def fit_weights(
    loss: Callable[[Tensor], Tensor],
    fits: Fits,
    *,
    steps: int,
    bound: float = 1.5,
    learning_rate: float = 0.05,
    on_weights: Callable[[Tensor, Tensor], None] = lambda weights, losses: None,
) -> Tensor:
    """Lower loss + penalty · mean|w| by Adam for each of P fits; (P, N).

    Each fit moves as if it ran alone: Adam works number by number, and a candidate's loss
    depends on no other candidate. Weights are kept within ±bound after every step.

    Args:
        loss: differentiable losses (P,) of weights (P, N).
        on_weights: called with the weights and the losses, without penalty, of every step; may raise.

    Source: Kingma and Ba, arXiv:1412.6980; the rate falls linearly to a tenth, so that the last
    steps settle rather than bounce around the kink of |w|.
    """
    weights = fits.start.clone().requires_grad_(True)
    adam = torch.optim.Adam([weights], lr=learning_rate)
    for number in range(steps):
        adam.param_groups[0]["lr"] = learning_rate * (1 - 0.9 * number / steps)
        losses = loss(weights)
        on_weights(weights.detach(), losses.detach())
        lowered = losses + fits.penalty * weights.abs().mean(-1)
        (gradient,) = torch.autograd.grad(torch.where(lowered.isfinite(), lowered, 0.0).sum(), weights)
        weights.grad = torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * fits.free
        with torch.no_grad():
            adam.step()
            weights.clamp_(-bound, bound)
    return weights.detach()
