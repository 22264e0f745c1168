"""Search without gradients by nevergrad's optimizers: ask, score, tell."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nevergrad as ng
import numpy as np

from composer.core.search.journal import NON_FINITE_PENALTY, Journal, SearchResult, finite_or_penalty
from composer.core.spec.counting import count_noun
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
    penalized: Callable[[Sequence[float], float], float] = lambda weights, loss: loss,
) -> SearchResult:
    """Minimize `score` by an optimizer of nevergrad that starts at w = 0 and stays within ±bound.

    At 20 dimensions, a budget of 40 and one worker, NGOpt is COBYLA: it scores w = 0, then one module
    after the other, and the rest of the budget goes to joint moves. The result names the algorithm that
    really ran.

    Steps in the journal's record are asked for again and get their recorded losses, so the result is the
    same to the bit. CMA-ES asks for a whole population before it reads a loss, so a population is scored at
    once; if only a part of it is recorded, all of it is scored again.

    If the optimizer itself fails after its first step, as some do in one dimension, the best step so far
    is the result, and the name of the algorithm says so.

    Args:
        score: the losses of P candidates, each (n_weights,); NaN and infinity count as NON_FINITE_PENALTY.
        n_weights: the length of a weight vector.
        journal: gets every step.
        optimizer: a name in nevergrad's registry.
        budget: scored candidates; 40 in LoraHub's own example.
        bound: the largest size of a weight.
        seed: of the optimizer.
        penalized: what the optimizer minimizes, from a candidate's weights (n_weights,) and its loss; the
            journal notes the loss itself.

    Returns:
        Weights (n_weights,), the steps and the algorithm.

    Raises:
        InvalidJobError: nevergrad has no such optimizer, or the record is of another search.
        SearchBrokeError: the optimizer failed before its first step, or needs a package that is missing.
        NonFiniteLossError: every loss was NaN or infinite.

    Source: Bennet, Doerr et al., Nevergrad, SIGEVOlution 14(1), 2021.
    """
    require_optimizer(optimizer)
    space = ng.p.Array(init=np.zeros(n_weights), lower=-bound, upper=bound)
    space.random_state.seed(seed)
    with name_optimizer_errors(optimizer):
        searcher = ng.optimizers.registry[optimizer](space, budget=budget)
    with stop_optimizer_threads(searcher):
        try:
            while (left := budget - len(journal.steps)) > 0:
                with name_optimizer_errors(optimizer):
                    count = min(left, population(searcher))
                ask_score_tell(searcher, score, penalized, journal, count)
            with name_optimizer_errors(optimizer):
                recommended = searcher.provide_recommendation().value
        except StopSearch:
            return journal.finish_early(algorithm_name(searcher))
        except SearchBrokeError as failure:
            if not journal.steps or isinstance(failure.__cause__, ImportError):
                raise
            name = f"{algorithm_name(searcher)}, which failed after {count_noun(len(journal.steps), 'step')}"
            return journal.finish(journal.best.weights, name)
        return journal.finish(recommended, algorithm_name(searcher))


def ask_score_tell(
    searcher: Any,
    score: Callable[[Sequence[tuple[float, ...]]], Sequence[float]],
    penalized: Callable[[Sequence[float], float], float],
    journal: Journal,
    count: int,
) -> None:
    """Run one round of `count` candidates; score them unless all of them are in the record.

    Args:
        searcher: the optimizer.
        score: the losses of P candidates, each (n_weights,).
        penalized: what the optimizer is told, from the weights and the loss.
        journal: gets one step per candidate.
        count: how many candidates to ask for.

    Raises:
        SearchBrokeError: the optimizer failed.
        InvalidJobError: the record is of another search.
    """
    with name_optimizer_errors(searcher.name):
        candidates = [searcher.ask() for _ in range(count)]
    tried = [tuple(map(float, candidate.value)) for candidate in candidates]
    known = [journal.known_loss(weights, ahead) for ahead, weights in enumerate(tried)]
    losses = [loss for loss in known if loss is not None]
    if len(losses) < count:
        losses = list(score(tried))
    for candidate, weights, loss in zip(candidates, tried, losses, strict=True):
        journal.note(weights, loss)
        with name_optimizer_errors(searcher.name):
            searcher.tell(candidate, told_value(weights, loss, penalized))


def told_value(
    weights: Sequence[float], loss: float, penalized: Callable[[Sequence[float], float], float]
) -> float:
    """Return what the optimizer is told; a loss of NaN or infinity counts as NON_FINITE_PENALTY."""
    finite_loss = finite_or_penalty(loss)
    if finite_loss == NON_FINITE_PENALTY:  # as the journal's record has it
        return NON_FINITE_PENALTY
    return finite_or_penalty(penalized(weights, finite_loss))


def require_optimizer(name: str) -> None:
    """Refuse a name that nevergrad has not registered.

    Raises:
        InvalidJobError: there is no such optimizer.
    """
    if name not in ng.optimizers.registry:
        raise InvalidJobError(f"nevergrad knows no optimizer {name!r}.")


def population(searcher: Any) -> int:
    """Return how many candidates are asked for before a loss is read: CMA-ES's population, else 1."""
    inner = getattr(searcher, "optim", searcher)
    return int(inner.es.popsize) if isinstance(inner, ng.optimization.optimizerlib._CMA) else 1


@contextmanager
def name_optimizer_errors(optimizer: str) -> Iterator[None]:
    """Turn any error inside into a SearchBrokeError that names the optimizer.

    With numpy 2, several optimizers of nevergrad fail in some dimensions.
    """
    try:
        yield
    except Exception as error:
        raise SearchBrokeError(optimizer, error) from error


def algorithm_name(searcher: Any) -> str:
    """Return the optimizer's name and the algorithms that it chose, as in "NGOpt -> Cobyla"."""
    names = [searcher.name]
    while (searcher := getattr(searcher, "optim", None)) is not None:
        names.append(searcher.name)
    return " -> ".join(dict.fromkeys(names))


@contextmanager
def stop_optimizer_threads(searcher: Any) -> Iterator[None]:
    """Silence warnings inside, and stop the optimizer's own threads on exit.

    nevergrad runs COBYLA in a thread that waits for the next loss. After an error no loss comes, and
    the thread would keep the process from ending.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's COBYLA warns about the radius that nevergrad sets
            yield
    finally:
        inner: Any = searcher
        while inner is not None:
            thread = getattr(inner, "_messaging_thread", None)
            if thread is not None:
                thread.stop()
            inner = getattr(inner, "optim", None)
