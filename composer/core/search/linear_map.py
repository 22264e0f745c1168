"""The logits at the label positions as a linear map of the weights, and the fit of the weights on it.

Around weights c the logits are nearly z(c) + J (w - c). N + 1 scored candidates give J, and then a fit on
the map costs milliseconds, whatever the base model.

Letters of shapes: F fits, N weights, T label tokens, K columns of logits.
"""

import torch
from torch import Tensor

ITERATIONS = 10  # of Newton's method on the map; most fits settle in six
LENGTHS = (1.0, 0.5, 0.2, 0.05)  # of a Newton step, tried side by side
ROUNDNESS = 1e-2  # of |w| around zero, so that Newton's method can pass the kink
SETTLED = 1e-5  # nats; a smaller decrease ends the fit
SECANT_DAMPING = 1e-2  # keeps the correction bounded where steps are short or nearly parallel


def difference_quotient(at: Tensor, around: Tensor, length: float | Tensor) -> Tensor:
    """Return the columns of J (T, K, M) from logits at M points, each moved along one weight.

    A column that is not finite is zero: a module with huge deltas then has no part in the fit.

    Args:
        at: (M, T, K).
        around: (T, K), at the centre.
        length: of each move, one number or (M, 1, 1); negative for a move back.
    """
    columns = ((at - around) / length).permute(1, 2, 0)
    return torch.where(columns.isfinite().all(0).all(0), columns, 0.0)


def times(jacobian: Tensor, moves: Tensor) -> Tensor:
    """Return J w: (F, T, K) for a map (T, K, N) and moves (F, N)."""
    return torch.einsum("tkn,fn->ftk", jacobian, moves)


def secant_update(jacobian: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """Return the map nearest to J that explains what the moves changed.

    J + (ΔZ - J ΔW) (ΔWᵀ ΔW + μI)⁻¹ ΔWᵀ: Broyden's rule for F moves at once, damped by μ = SECANT_DAMPING.

    Args:
        jacobian: (T, K, N).
        moves: (F, N), the columns of ΔW.
        changes: (F, T, K) of the logits along each move, ΔZ.

    Source: Broyden, Mathematics of Computation 19 (1965); Schnabel's form for several secants.
    """
    unexplained = changes - times(jacobian, moves)
    gram = moves @ moves.T + SECANT_DAMPING * torch.eye(len(moves), dtype=moves.dtype)
    return jacobian + torch.einsum("ftk,fn->tkn", unexplained, torch.linalg.solve(gram, moves))


def fit_on_map(
    logits: Tensor,
    jacobian: Tensor,
    labels: Tensor,
    token_weights: Tensor,
    start: Tensor,
    *,
    damping: Tensor,
    penalty: float,
    bound: float,
) -> Tensor:
    """Return F weight vectors (F, N) that are best on the map, each by the tokens that its fit sees.

    Fit f minimizes, within ±bound, the convex function

        Σ_t m_ft · CE(z_f + J (w - c_f))_t + penalty · mean|w| + (λ_f / 2) ‖w - c_f‖²

    by Newton's method; the fits run side by side.

    Args:
        logits: z (F, T, K) at the starts.
        jacobian: J (T, K, N), the same for all fits.
        labels: (T,) the column of each label token.
        token_weights: m (F, T); each row sums to 1.
        start: c (F, N).
        damping: λ (F,).
        penalty: nats per unit of mean|w|.
        bound: the largest size of a weight.

    Source: Levenberg, Quarterly of Applied Mathematics 2 (1944); the curvature is that of the softmax, as in
    Schraudolph, Neural Computation 14 (2002).
    """
    n_fits, n = start.shape
    T, K, _ = jacobian.shape
    J = jacobian.flatten(0, 1).T  # (N, T * K)
    right = torch.zeros(T, K, dtype=start.dtype).scatter_(1, labels.unsqueeze(1), 1.0)
    pull, spring = penalty / n, damping.unsqueeze(-1)
    lengths = torch.tensor(LENGTHS, dtype=start.dtype).view(-1, 1, 1)
    fits = torch.arange(n_fits)

    def logits_at(w: Tensor) -> Tensor:  # (…, F, N) -> (…, F, T, K)
        return logits + ((w - start) @ J).view(*w.shape[:-1], T, K)

    def value(w: Tensor) -> Tensor:  # (…, F, N) -> (…, F)
        z = logits_at(w)
        nats = z.logsumexp(-1) - z[..., torch.arange(T), labels]
        size = (w.square() + ROUNDNESS**2).sqrt().sum(-1)
        return (nats * token_weights).sum(-1) + pull * size + damping / 2 * (w - start).square().sum(-1)

    w, lowest = start, value(start)
    for _ in range(ITERATIONS):
        p = logits_at(w).softmax(-1)  # (F, T, K)
        m = token_weights.unsqueeze(-1)
        size = (w.square() + ROUNDNESS**2).sqrt()
        gradient = ((p - right) * m).flatten(1) @ J.T + pull * w / size + spring * (w - start)
        mean = torch.einsum("ftk,tkn->ftn", p, jacobian)
        curvature = (J * (p * m).flatten(1).unsqueeze(1)) @ J.T - (mean * m).mT @ mean
        curvature = curvature + torch.diag_embed(pull / size + spring + 1e-6)
        held = (w.abs() >= bound) & (w.sign() == -gradient.sign())  # at a bound, and would move beyond it
        free = (~held).to(w.dtype)
        curvature = curvature * free.unsqueeze(1) * free.unsqueeze(2) + torch.diag_embed(1 - free)
        step = torch.linalg.solve(curvature, (gradient * free).unsqueeze(-1)).squeeze(-1)
        trials = (w - lengths * step).clamp(-bound, bound)
        values, best = value(trials).min(0)
        lower = values < lowest - SETTLED
        if not lower.any():
            break
        w = torch.where(lower.unsqueeze(-1), trials[best, fits], w)
        lowest = torch.where(lower, values, lowest)
    return w
