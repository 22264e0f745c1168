"""Greedy search: add one module at a time while the loss falls."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from composer.core.search.journal import Journal, OnStep, SearchResult, finite_or_penalty


def search_greedy(
    score: Callable[[Tensor], Tensor],
    single_losses: Sequence[float],
    *,
    base_loss: float,
    budget: int,
    partners: int = 6,
    on_step: OnStep = lambda step: None,
    journal: Journal | None = None,
) -> SearchResult:
    """Start from the best module alone, and add the partner that lowers the loss most while one does.

    Every module has weight 0 or 1, so the result shows which modules the task needs.

    Args:
        score: losses (P,) of candidates (P, N).
        single_losses: (N,) loss of each module alone, in the unit of `score`.
        base_loss: the loss at w = 0. If no module alone is below it, the result is w = 0.
        budget: the most candidates to score.
        partners: how many of the next best modules alone are tried as partners.
        on_step: called with each step, if there is no journal; may raise `StopSearch`.
        journal: gets the steps; None for a new one that calls `on_step`.

    Returns:
        Weights (N,) of 0 and 1.

    Raises:
        NonFiniteLossError: the base alone and every module alone have a loss of NaN or infinity.

    Source: Caruana et al., Ensemble selection from libraries of models, ICML 2004.
    """
    n = len(single_losses)
    order = sorted(range(n), key=lambda i: (finite_or_penalty(single_losses[i]), i))
    journal = journal or Journal(on_step)
    chosen = torch.zeros(n)
    best, left = finite_or_penalty(base_loss), budget
    # It is known already, so even a search stopped at its first step has it.
    if finite_or_penalty(single_losses[order[0]]) < best:
        chosen[order[0]], best = 1.0, finite_or_penalty(single_losses[order[0]])
    journal.note(chosen.tolist(), best)
    if not chosen.any():
        return journal.finish(chosen.tolist(), "greedy")
    while candidates := [i for i in order[: partners + 1] if chosen[i] == 0][:left]:
        trials = chosen.repeat(len(candidates), 1)
        trials[range(len(candidates)), candidates] = 1.0
        losses = [finite_or_penalty(loss) for loss in score(trials).tolist()]
        left -= len(candidates)
        winner = min(range(len(losses)), key=losses.__getitem__)
        if losses[winner] >= best:
            break
        chosen, best = trials[winner], losses[winner]
        journal.note(chosen.tolist(), best)
    return journal.finish(chosen.tolist(), "greedy")
