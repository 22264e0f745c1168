"""Gradient fits of weights by Adam, several fits side by side.

The caller watches and stops a fit: `on_weights` runs in every step and may raise `StopSearch` to end
the search with the best of its steps, or any other error to end the job.

Letters of shapes: P fits, n_weights numbers in each weight vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from composer.core.search.journal import STATE_EVERY, Journal
from composer.core.spec.choices import ADAM_STEPS, GRADIENT_STEP_COST

Variant = Literal["dense", "sparse", "positive"]


@dataclass(frozen=True)
class ParallelFits:
    """P gradient fits that run side by side as one batch.

    Attributes:
        start: (P, n_weights) weights to start from.
        free: (P, n_weights) of 0 and 1; a weight at 0 keeps its start.
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
    """Minimize loss + penalty · mean|w| by Adam for each of P fits.

    Each fit moves as if it ran alone, because Adam treats every number by itself and the loss of a
    candidate depends on no other candidate. After every step the weights are clamped to ±bound.

    If there is a journal, it gets the state of the fits every STATE_EVERY steps. If the record of an
    earlier attempt holds a state of this name, the fits continue from it, with the same bits.

    Args:
        loss: differentiable losses (P,) in nats per label token, of weights (P, n_weights).
        fits: starts, free weights and penalties.
        steps: Adam steps.
        bound: the largest size of a weight.
        learning_rate: in the first step; it falls linearly to about a tenth, so that the last steps
            settle at the kink of |w| at zero.
        on_weights: called in every step, before the weights change, with the weights (P, n_weights) and
            the losses (P,) without penalty; may raise. If there is a journal, it must note one step there.
        variant: "dense"; "sparse", where a proximal step after Adam's own takes the place of the penalty, so
            that weights become exactly zero; "positive", where weights stay at or above zero.
        journal: for states; None for a fit that cannot be resumed.
        name: of the fit; unique within one search.

    Returns:
        (P, n_weights), the weights after the last step.

    Raises:
        InvalidJobError: the recorded state has other shapes.

    Source: Kingma and Ba, Adam, arXiv:1412.6980.
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


def adam_steps(budget: int) -> int:
    """Return the steps of a single fit for a budget of scored candidates, 1 to ADAM_STEPS."""
    return min(ADAM_STEPS, max(1, budget // GRADIENT_STEP_COST))


def rate_for(steps: int) -> float:
    """Return a learning rate with which a weight can reach any value in so few steps, 0.05 to 0.3.

    0.05 suffices for 150 steps.
    """
    return min(0.3, max(0.05, 7.5 / steps))


def resume_fit(journal: Journal | None, name: str, weights: Tensor, adam: torch.optim.Adam) -> int:
    """Load the recorded weights (P, n_weights) and Adam moments in place; return how many steps they took.

    Returns 0 and changes nothing if there is no recorded state.
    """
    like = {"weights": weights, "exp_avg": weights, "exp_avg_sq": weights}
    state = journal.resume(name, like) if journal is not None else None
    if state is None:
        return 0
    with torch.no_grad():
        weights.copy_(state.tensors["weights"])
    adam.state[weights] = {key: state.tensors[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return state.step


def shrink(weights: Tensor, fits: ParallelFits, adam: torch.optim.Adam, rate: float) -> None:
    """Take the proximal step of the penalty: move every free weight (P, n_weights) toward zero, in place.

    Where Adam divides a gradient by d, the threshold is rate · (penalty / N) / d, with N = n_weights. So a
    weight stays at exactly zero if the gradient of its loss is smaller than penalty / N.

    Source: Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009), in a diagonal metric.
    """
    moments, (_, decay) = adam.state[weights], adam.param_groups[0]["betas"]
    metric = (moments["exp_avg_sq"] / (1 - decay ** float(moments["step"]))).sqrt() + 1e-8
    threshold = rate * fits.penalty.unsqueeze(-1) / weights.shape[-1] / metric * fits.free
    weights.copy_(weights.sign() * (weights.abs() - threshold).clamp(min=0))
