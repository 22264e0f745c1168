"""The linear map of the logits, and fits on it, against slow and obvious ways."""

import pytest
import torch

from composer.core.search.linear_map import (
    ROUNDNESS,
    difference_quotient,
    fit_on_map,
    secant_update,
    times,
)

F, N, T, K = 3, 4, 6, 5


def problem(seed=0):
    torch.manual_seed(seed)
    z, J = torch.randn(F, T, K, dtype=torch.double), torch.randn(T, K, N, dtype=torch.double)
    labels, weights = torch.randint(K, (T,)), torch.rand(F, T, dtype=torch.double)
    start = torch.randn(F, N, dtype=torch.double).clamp(-1, 1)
    return z, J, labels, weights / weights.sum(1, keepdim=True), start


def objective(w, z, J, labels, token_weights, start, damping, penalty):
    """The function of the docstring, term by term; the kink of |w| is rounded."""
    total = torch.zeros((), dtype=torch.double)
    for f in range(len(w)):
        logits = z[f] + J @ (w[f] - start[f])
        nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        size = (w[f] ** 2 + ROUNDNESS**2).sqrt().mean()
        distance = ((w[f] - start[f]) ** 2).sum()
        total = total + (nats * token_weights[f]).sum() + penalty * size + damping[f] / 2 * distance
    return total


@pytest.mark.parametrize("seed", range(4))
def test_each_fit_is_the_minimum_within_the_bounds(seed):
    """The function is convex, so a point where nothing goes down is the minimum."""
    damping, penalty, bound = torch.tensor([0.01, 0.3, 5.0], dtype=torch.double), 0.3, 1.0
    z, J, labels, token_weights, start = problem(seed)
    found = fit_on_map(z, J, labels, token_weights, start, damping=damping, penalty=penalty, bound=bound)
    assert float(found.abs().max()) <= bound
    w = found.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(w, z, J, labels, token_weights, start, damping, penalty), [w])
    inside = found.abs() < bound
    assert float(gradient[inside].abs().max()) < 0.02
    assert (gradient[~inside].sign() == -found[~inside].sign()).all()


def test_a_large_damping_stays_where_it_is_and_a_strong_penalty_ends_at_zero():
    z, J, labels, token_weights, start = problem()
    stiff = torch.full((F,), 1e6, dtype=torch.double)
    stays = fit_on_map(z, J, labels, token_weights, start, damping=stiff, penalty=0.0, bound=1.5)
    torch.testing.assert_close(stays, start, atol=1e-4, rtol=0)
    loose = torch.full((F,), 1e-3, dtype=torch.double)
    ends = fit_on_map(z, J, labels, token_weights, start, damping=loose, penalty=200.0, bound=1.5)
    assert float(ends.abs().max()) < 0.02


def test_the_secants_are_explained_and_what_is_across_them_stays():
    _, J, *_ = problem()
    moves = torch.zeros(2, N, dtype=torch.double)
    moves[0, 0], moves[1, 1] = 3.0, -2.0
    changes = torch.randn(2, T, K, dtype=torch.double)
    updated = secant_update(J, moves, changes)
    torch.testing.assert_close(times(updated, moves), changes, rtol=0, atol=2e-2)
    torch.testing.assert_close(updated[..., 2:], J[..., 2:])
    explained = secant_update(J, moves, times(J, moves))
    torch.testing.assert_close(explained, J)


def test_the_quotient_of_a_linear_function_is_its_map_and_a_wild_column_is_left_out():
    _, J, *_ = problem()
    around = torch.randn(T, K, dtype=torch.double)
    at = around + 0.1 * J.permute(2, 0, 1)
    torch.testing.assert_close(difference_quotient(at, around, 0.1), J)
    at[1, 0, 0], at[2, 3, 1] = torch.nan, torch.inf
    found = difference_quotient(at, around, 0.1)
    assert found[..., 1:3].abs().max() == 0
    torch.testing.assert_close(found[..., [0, 3]], J[..., [0, 3]])
