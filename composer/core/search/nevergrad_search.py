"""Gradient-free search with nevergrad's optimizers: ask, score, tell."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nevergrad as ng
import numpy as np

from composer.core.search.journal import Journal, SearchResult, finite_or_penalty
from composer.core.spec.errors import InvalidJobError, SearchBrokeError, StopSearch


def search_nevergrad(
    score: Callable[[Sequence[tuple[float, ...]]], Sequence[float]],
    n_weights: int,
    journal: Journal,
    *,
    optimizer: str = "NGOpt",
    budget: int = 40,
    bound: float = 1.5,
    seed: int = 42,
) -> SearchResult:
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
            searcher.tell(candidate, finite_or_penalty(loss))


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
