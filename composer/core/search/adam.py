"""Searching for the weights: ask, score, tell; or add one by one; or follow the gradient.

The loop is ours. Showing progress and stopping early belong to the caller: `on_step` runs after
each step and may raise `StopSearch` to have the best found so far, or anything else to end it all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from composer.core.search.journal import STATE_EVERY, Journal

# --- without gradients --------------------------------------------------------


# --- with gradients -----------------------------------------------------------


Variant = Literal["dense", "sparse", "positive"]


@dataclass(frozen=True)
class ParallelFits:
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
    fits: ParallelFits,
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
    for number in range(resume_fit(journal, name, weights, adam), steps):
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


def resume_fit(journal: Journal | None, name: str, weights: Tensor, adam: torch.optim.Adam) -> int:
    """Put the weights and Adam's moments where the record has them; the number of steps they took."""
    like = {"weights": weights, "exp_avg": weights, "exp_avg_sq": weights}
    state = journal.resume(name, like) if journal is not None else None
    if state is None:
        return 0
    with torch.no_grad():
        weights.copy_(state.tensors["weights"])
    adam.state[weights] = {key: state.tensors[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return state.step


def shrink(weights: Tensor, fits: ParallelFits, adam: torch.optim.Adam, rate: float) -> None:
    """Move every free weight toward zero, and no further, by what the penalty asks in Adam's metric.

    Where Adam divides a gradient by d, the threshold is rate · (penalty / N) / d: so a weight rests at
    exactly zero when the gradient of its loss is smaller than penalty / N.

    Source: Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009), in a diagonal metric.
    """
    moments, (_, decay) = adam.state[weights], adam.param_groups[0]["betas"]
    metric = (moments["exp_avg_sq"] / (1 - decay ** float(moments["step"]))).sqrt() + 1e-8
    threshold = rate * fits.penalty.unsqueeze(-1) / weights.shape[-1] / metric * fits.free
    weights.copy_(weights.sign() * (weights.abs() - threshold).clamp(min=0))
