"""L-BFGS on a handful to a few thousand weights within bounds.

Written out, because a fit has to be told as it stands and to go on from there: torch's and scipy's
keep their memory to themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.search.journal import STATE_EVERY, Journal

MEMORY = 10  # pairs of moves and changes of the gradient
ENOUGH = 1e-4  # of the decrease that the slope promises; Armijo's rule
SHORTEST = 2.0**-12  # of a move; below, the search rests
ROUNDNESS = 1e-3  # of |w| about zero, whose kink would mislead a quasi-Newton method

ValueAndGradient = Callable[[Tensor], tuple[float, Tensor]]


@dataclass
class LbfgsState:
    """All that the next iteration depends on; float64, so that differences of gradients keep digits."""

    weights: Tensor  # (n,)
    value: float
    gradient: Tensor  # (n,)
    moves: Tensor  # (k, n), the latest last, k at most MEMORY
    changes: Tensor  # (k, n) of the gradient, along those moves
    evaluations: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "LbfgsState":
        """What `tensors` made of it, once more."""
        value, evaluations = float(tensors["value"]), int(tensors["evaluations"])
        pairs = tensors["moves"], tensors["changes"]
        return cls(tensors["weights"], value, tensors["gradient"], *pairs, evaluations)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "weights": self.weights,
            "value": torch.tensor(self.value, dtype=torch.float64),
            "gradient": self.gradient,
            "moves": self.moves,
            "changes": self.changes,
            "evaluations": torch.tensor(self.evaluations),
        }


def fit_lbfgs(
    evaluate: ValueAndGradient,
    start: Tensor,
    *,
    evaluations: int,
    bound: float,
    journal: Journal,
    name: str = "fit",
) -> Tensor:
    """Lower a function of (n,) weights within ±bound; (n,) float32, the lowest point reached.

    Every iteration is one step in the journal. It ends after so many `evaluations`, or when no step
    along the direction lowers the value.

    Args:
        evaluate: the value and the gradient (n,) at weights (n,).

    Source: Nocedal, Mathematics of Computation 35 (1980); each trial is put back within the bounds.
    """
    state = journal.resume(name, {"weights": start})
    if state is None:
        iteration, lbfgs_state = 0, begin(evaluate, start)
        journal.note(lbfgs_state.weights.tolist(), lbfgs_state.value)
    else:
        iteration, lbfgs_state = state.step, LbfgsState.of(state.tensors)
    while lbfgs_state.evaluations < evaluations and line_search(evaluate, lbfgs_state, evaluations, bound):
        iteration += 1
        journal.note(lbfgs_state.weights.tolist(), lbfgs_state.value)
        if iteration % STATE_EVERY == 0:
            journal.keep(name, iteration, lbfgs_state.tensors())
    return lbfgs_state.weights.float()


def begin(evaluate: ValueAndGradient, start: Tensor) -> LbfgsState:
    """The first evaluation."""
    weights = start.double()
    value, gradient = evaluate(weights)
    no_pairs = torch.zeros(0, len(weights), dtype=torch.float64)
    return LbfgsState(weights, value, gradient.double(), no_pairs, no_pairs, 1)


def line_search(evaluate: ValueAndGradient, lbfgs_state: LbfgsState, evaluations: int, bound: float) -> bool:
    """Go down along the direction, by half as much until it is enough; False when nothing is.

    What is remembered may mislead; then it is forgotten, and the slope itself is followed.
    """
    if go_down(evaluate, lbfgs_state, evaluations, bound):
        return True
    if not len(lbfgs_state.moves):
        return False
    lbfgs_state.moves = lbfgs_state.changes = torch.zeros_like(lbfgs_state.moves[:0])
    return go_down(evaluate, lbfgs_state, evaluations, bound)


def go_down(evaluate: ValueAndGradient, lbfgs_state: LbfgsState, evaluations: int, bound: float) -> bool:
    direction = -times_inverse_hessian(lbfgs_state, bound)
    length = 1.0 if len(lbfgs_state.moves) else min(1.0, 0.5 / max(float(direction.abs().max()), 1e-12))
    while length >= SHORTEST and lbfgs_state.evaluations < evaluations:
        trial = (lbfgs_state.weights + length * direction).clamp(-bound, bound)
        move = trial - lbfgs_state.weights
        value, gradient = evaluate(trial)
        lbfgs_state.evaluations += 1
        if value <= lbfgs_state.value + ENOUGH * float(move @ lbfgs_state.gradient) and bool(move.any()):
            remember(lbfgs_state, move, gradient.double() - lbfgs_state.gradient)
            lbfgs_state.weights, lbfgs_state.value, lbfgs_state.gradient = trial, value, gradient.double()
            return True
        length /= 2
    return False


def remember(lbfgs_state: LbfgsState, move: Tensor, change: Tensor) -> None:
    """Keep a pair, if the function curves upward along it; the oldest goes."""
    if float(move @ change) > 1e-10:
        lbfgs_state.moves = torch.cat([lbfgs_state.moves, move.unsqueeze(0)])[-MEMORY:]
        lbfgs_state.changes = torch.cat([lbfgs_state.changes, change.unsqueeze(0)])[-MEMORY:]


def times_inverse_hessian(lbfgs_state: LbfgsState, bound: float) -> Tensor:
    """(n,): the gradient times the inverse Hessian, as the remembered pairs let it be seen.

    Zero for weights that lie at a bound and would go beyond.
    """
    uphill = lbfgs_state.gradient.sign()
    free = ~((lbfgs_state.weights.abs() >= bound) & (lbfgs_state.weights.sign() == -uphill))
    result = lbfgs_state.gradient * free
    shares = []
    for s, y in zip(reversed(lbfgs_state.moves), reversed(lbfgs_state.changes), strict=True):
        share = (s @ result) / (s @ y)
        shares.append(share)
        result -= share * y
    if len(lbfgs_state.moves):
        s, y = lbfgs_state.moves[-1], lbfgs_state.changes[-1]
        result *= (s @ y) / (y @ y)
    for s, y, share in zip(lbfgs_state.moves, lbfgs_state.changes, reversed(shares), strict=True):
        result += (share - (y @ result) / (s @ y)) * s
    return result * free


def rounded_size(weights: Tensor) -> Tensor:
    """mean|w| without its kink at zero: (P, N) -> (P,)."""
    return ((weights.square() + ROUNDNESS**2).sqrt() - ROUNDNESS).mean(-1)
