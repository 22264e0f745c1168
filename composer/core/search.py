"""Searching for the weights: ask, score, tell; or add one by one; or follow the gradient.

The loop is ours. Showing progress and stopping early belong to the caller: `on_step` runs after
each step and may raise `StopSearch` to have the best found so far, or anything else to end it all.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import nevergrad as ng
import numpy as np
import torch
from torch import Tensor

from composer.core.record import STATE_EVERY, Found, Journal, OnStep, finite
from composer.core.spec.errors import InvalidJobError, SearchBrokeError, StopSearch

# --- without gradients --------------------------------------------------------


def search_nevergrad(
    score: Callable[[Sequence[tuple[float, ...]]], Sequence[float]],
    n_weights: int,
    journal: Journal,
    *,
    optimizer: str = "NGOpt",
    budget: int = 40,
    bound: float = 1.5,
    seed: int = 42,
) -> Found:
    """Lower `score` by a nevergrad optimiser that starts at w = 0 within ±bound.

    At 20 dimensions, a budget of 40 and one worker NGOpt is COBYLA: it scores w = 0, probes
    one module after the other, and has what is left for joint moves. The name of the
    algorithm that ran is in the result.

    Steps that the journal has on record are asked again and told their losses, not scored again, and
    the result is the same to the bit. CMA-ES asks for a whole population before it reads a loss, so a
    population is scored at once; one that is on record in part is scored whole again.

    Args:
        score: the losses of P candidates, each (n_weights,); NaN and infinity count as very large.
        budget: candidates scored; 40 in LoraHub's own example.

    An optimiser that fails by itself on the way, as some do in one dimension, has searched until then:
    the best of its steps is the result, and its name says so.

    Raises:
        InvalidJobError: nevergrad has no such optimiser, or the record is of another search.
        SearchBrokeError: the optimiser failed before its first step, or wants a package that is not here.
        NonFiniteLossError: every loss was NaN or infinite.
    """
    require_optimizer(optimizer)
    space = ng.p.Array(init=np.zeros(n_weights), lower=-bound, upper=bound)
    space.random_state.seed(seed)
    with its_own_failures(optimizer):
        searcher = ng.optimizers.registry[optimizer](space, budget=budget)
    with quietly_ended(searcher):
        try:
            while (left := budget - len(journal.steps)) > 0:
                with its_own_failures(optimizer):
                    count = min(left, population(searcher))
                ask_score_tell(searcher, score, journal, count)
            with its_own_failures(optimizer):
                recommended = searcher.provide_recommendation().value
        except StopSearch:
            return journal.finish_early(algorithm_name(searcher))
        except SearchBrokeError as failure:
            if not journal.steps or isinstance(failure.__cause__, ImportError):
                raise
            name = f"{algorithm_name(searcher)}, which failed after {len(journal.steps)} steps"
            return journal.finish(journal.best.weights, name)
        return journal.finish(recommended, algorithm_name(searcher))


def ask_score_tell(
    searcher: Any,
    score: Callable[[Sequence[tuple[float, ...]]], Sequence[float]],
    journal: Journal,
    count: int,
) -> None:
    """One round of `count` candidates; those on record are not scored unless others beside them are."""
    with its_own_failures(searcher.name):
        candidates = [searcher.ask() for _ in range(count)]
    tried = [tuple(map(float, candidate.value)) for candidate in candidates]
    known = [journal.known_loss(weights, ahead) for ahead, weights in enumerate(tried)]
    losses = [loss for loss in known if loss is not None]
    if len(losses) < count:
        losses = list(score(tried))
    for candidate, weights, loss in zip(candidates, tried, losses, strict=True):
        journal.note(weights, loss)
        with its_own_failures(searcher.name):
            searcher.tell(candidate, finite(loss))


def require_optimizer(name: str) -> None:
    """Refuse a name that nevergrad has not registered.

    Raises:
        InvalidJobError: there is no such optimiser.
    """
    if name not in ng.optimizers.registry:
        raise InvalidJobError(f"nevergrad knows no optimiser {name!r}.")


def population(searcher: Any) -> int:
    """How many candidates CMA-ES asks for before it reads the loss of the first; 1 for all others."""
    inner = getattr(searcher, "optim", searcher)
    return int(inner.es.popsize) if isinstance(inner, ng.optimization.optimizerlib._CMA) else 1


@contextmanager
def its_own_failures(optimizer: str) -> Iterator[None]:
    """Say which optimiser failed: with numpy 2, several of nevergrad's do in some dimensions."""
    try:
        yield
    except Exception as error:
        raise SearchBrokeError(optimizer, error) from error


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
    journal: Journal | None = None,
) -> Found:
    """Start from the best module alone and add the partner that helps most, while one helps.

    Every module has weight 0 or 1, so the result says plainly which modules the task needs.

    Args:
        score: losses (P,) of candidates (P, N).
        alone: the loss of each module alone, (N,).
        nothing: the loss at w = 0, which any module has to beat.
        budget: the most candidates to score beyond those.
        partners: only so many of the best modules alone are tried as partners.
        journal: to keep the steps in, instead of a new one that tells `on_step`.
    """
    n = len(alone)
    order = sorted(range(n), key=lambda i: (finite(alone[i]), i))
    journal = journal or Journal(on_step)
    chosen = torch.zeros(n)
    best, left = finite(nothing), budget
    if finite(alone[order[0]]) < best:  # known before any step: whoever stops at the first has it
        chosen[order[0]], best = 1.0, finite(alone[order[0]])
    journal.note(chosen.tolist(), best)
    if not chosen.any():
        return journal.finish(chosen.tolist(), "greedy")
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


# --- with gradients -----------------------------------------------------------


Variant = Literal["dense", "sparse", "positive"]


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
    variant: Variant = "dense",
    journal: Journal | None = None,
    name: str = "fit",
) -> Tensor:
    """Lower loss + penalty · mean|w| by Adam for each of P fits; (P, N).

    Each fit moves as if it ran alone: Adam works number by number, and a candidate's loss
    depends on no other candidate. Weights are kept within ±bound after every step.

    With a journal the fits tell their state every ten steps, under a `name` that no other fit of
    the search has, and go on from the state on record, if there is one, to the same bits.

    Args:
        loss: differentiable losses (P,) of weights (P, N).
        on_weights: called with the weights and the losses, without penalty, of every step; may raise.
            It notes one step in the journal, if there is one.
        variant: "dense"; "sparse", where the penalty is a proximal step after Adam's own, so that
            weights become exactly zero; "positive", where weights are kept at or above zero.

    Source: Kingma and Ba, arXiv:1412.6980; the rate falls linearly to a tenth, so that the last
    steps settle rather than bounce around the kink of |w|.
    """
    weights = fits.start.clone().requires_grad_(True)
    adam = torch.optim.Adam([weights], lr=learning_rate)
    lowest = 0.0 if variant == "positive" else -bound
    in_gradient = 0.0 if variant == "sparse" else fits.penalty
    for number in range(resumed(journal, name, weights, adam), steps):
        rate = adam.param_groups[0]["lr"] = learning_rate * (1 - 0.9 * number / steps)
        losses = loss(weights)
        on_weights(weights.detach(), losses.detach())
        lowered = losses + in_gradient * weights.abs().mean(-1)
        (gradient,) = torch.autograd.grad(torch.where(lowered.isfinite(), lowered, 0.0).sum(), weights)
        weights.grad = torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * fits.free
        with torch.no_grad():
            adam.step()
            if variant == "sparse":
                shrink(weights, fits, adam, rate)
            weights.clamp_(lowest, bound)
        if journal is not None and ((number + 1) % STATE_EVERY == 0 or number + 1 == steps):
            journal.keep(name, number + 1, {"weights": weights, **adam.state[weights]})
    return weights.detach()


def resumed(journal: Journal | None, name: str, weights: Tensor, adam: torch.optim.Adam) -> int:
    """Put the weights and Adam's moments where the record has them; the number of steps they took."""
    like = {"weights": weights, "exp_avg": weights, "exp_avg_sq": weights}
    state = journal.resume(name, like) if journal is not None else None
    if state is None:
        return 0
    with torch.no_grad():
        weights.copy_(state.tensors["weights"])
    adam.state[weights] = {key: state.tensors[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return state.step


def shrink(weights: Tensor, fits: Fits, adam: torch.optim.Adam, rate: float) -> None:
    """Move every free weight toward zero, and no further, by what the penalty asks in Adam's metric.

    Where Adam divides a gradient by d, the threshold is rate · (penalty / N) / d: so a weight rests at
    exactly zero when the gradient of its loss is smaller than penalty / N.

    Source: Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009), in a diagonal metric.
    """
    moments, (_, decay) = adam.state[weights], adam.param_groups[0]["betas"]
    metric = (moments["exp_avg_sq"] / (1 - decay ** float(moments["step"]))).sqrt() + 1e-8
    threshold = rate * fits.penalty.unsqueeze(-1) / weights.shape[-1] / metric * fits.free
    weights.copy_(weights.sign() * (weights.abs() - threshold).clamp(min=0))
