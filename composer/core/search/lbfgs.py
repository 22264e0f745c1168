"""L-BFGS within bounds, for a handful to a few thousand weights.

It is written out here because a fit must be stored and resumed: torch and scipy do not expose their
memory of past moves.

Letters of shapes: n weights, k remembered moves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.search.journal import STATE_EVERY, Journal

MEMORY = 10  # most remembered pairs of a move and its change of the gradient
ENOUGH = 1e-4  # share of the decrease that the gradient predicts; Armijo's rule
SHORTEST = 2.0**-12  # factor on a direction; below it the line search gives up
ROUNDNESS = 1e-3  # of |w| around zero: the kink there would give a quasi-Newton method a wrong curvature

ValueAndGradient = Callable[[Tensor], tuple[float, Tensor]]


@dataclass
class LbfgsState:
    """Everything that the next iteration depends on: weights (n,), gradient (n,), k moves (k, n), and more.

    The tensors are float64, so that differences of gradients keep their digits.
    """

    weights: Tensor  # (n,)
    value: float
    gradient: Tensor  # (n,)
    moves: Tensor  # (k, n), the latest last, k at most MEMORY
    changes: Tensor  # (k, n) of the gradient, along those moves
    evaluations: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "LbfgsState":
        """Return the standing that `tensors` stored."""
        value, evaluations = float(tensors["value"]), int(tensors["evaluations"])
        pairs = tensors["moves"], tensors["changes"]
        return cls(tensors["weights"], value, tensors["gradient"], *pairs, evaluations)

    def tensors(self) -> dict[str, Tensor]:
        """Return the standing as tensors by name: (n,), (k, n) and scalars, to be stored as a state."""
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
    penalty: Callable[[Tensor], float] = lambda weights: 0.0,
) -> Tensor:
    """Minimize a function of (n,) weights within ±bound.

    The start and every iteration are one step in the journal each. The fit ends after so many evaluations,
    or if no trial along the direction lowers the value enough. Each trial is clamped to the bounds.

    Args:
        evaluate: returns the value and the gradient (n,) at float64 weights (n,).
        start: (n,).
        evaluations: the most calls of `evaluate`.
        bound: the largest size of a weight.
        journal: gets the steps, and a state every STATE_EVERY iterations.
        name: of the fit; unique within one search.
        penalty: the part of the value at weights (n,) that is no loss; the journal notes the rest.

    Returns:
        (n,) float32, the point with the lowest value.

    Raises:
        InvalidJobError: the recorded state is of another search.

    Source: Nocedal, Mathematics of Computation 35 (1980).
    """
    state = journal.resume(name, {"weights": start})
    if state is None:
        iteration, lbfgs_state = 0, begin(evaluate, start)
        journal.note(lbfgs_state.weights.tolist(), lbfgs_state.value - penalty(lbfgs_state.weights))
    else:
        iteration, lbfgs_state = state.step, LbfgsState.of(state.tensors)
    while lbfgs_state.evaluations < evaluations and line_search(evaluate, lbfgs_state, evaluations, bound):
        iteration += 1
        journal.note(lbfgs_state.weights.tolist(), lbfgs_state.value - penalty(lbfgs_state.weights))
        if iteration % STATE_EVERY == 0:
            journal.keep(name, iteration, lbfgs_state.tensors())
    return lbfgs_state.weights.float()


def begin(evaluate: ValueAndGradient, start: Tensor) -> LbfgsState:
    """Return the standing after the first evaluation, at `start` (n,)."""
    weights = start.double()
    value, gradient = evaluate(weights)
    no_pairs = torch.zeros(0, len(weights), dtype=torch.float64)
    return LbfgsState(weights, value, gradient.double(), no_pairs, no_pairs, 1)


def line_search(evaluate: ValueAndGradient, lbfgs_state: LbfgsState, evaluations: int, bound: float) -> bool:
    """Move to a lower point along the direction, in place; return False if no trial is low enough.

    Remembered moves can give a bad direction. Then they are dropped, and the gradient itself is followed.
    """
    if line_search_step(evaluate, lbfgs_state, evaluations, bound):
        return True
    if not len(lbfgs_state.moves):
        return False
    lbfgs_state.moves = lbfgs_state.changes = torch.zeros_like(lbfgs_state.moves[:0])
    return line_search_step(evaluate, lbfgs_state, evaluations, bound)


def line_search_step(
    evaluate: ValueAndGradient, lbfgs_state: LbfgsState, evaluations: int, bound: float
) -> bool:
    """Try the direction at full length, then at half of it, and so on; move to the first point low enough.

    Returns whether a trial met Armijo's rule within `evaluations` evaluations in all. Without remembered
    moves, the first trial changes no weight by more than 0.5.
    """
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
    """Keep a move (n,) and its change of gradient (n,), if the function curves upward along it.

    At most MEMORY pairs are kept; the oldest one is dropped.
    """
    if float(move @ change) > 1e-10:
        lbfgs_state.moves = torch.cat([lbfgs_state.moves, move.unsqueeze(0)])[-MEMORY:]
        lbfgs_state.changes = torch.cat([lbfgs_state.changes, change.unsqueeze(0)])[-MEMORY:]


def times_inverse_hessian(lbfgs_state: LbfgsState, bound: float) -> Tensor:
    """Return (n,): the gradient times the inverse Hessian that the remembered pairs approximate.

    It is zero for a weight that is at a bound and would move beyond it.

    Source: Nocedal, Mathematics of Computation 35 (1980), the two-loop recursion.
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
    """Return mean|w| without its kink at zero: (P, n_weights) -> (P,)."""
    return ((weights.square() + ROUNDNESS**2).sqrt() - ROUNDNESS).mean(-1)
