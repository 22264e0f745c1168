"""The gradient in blocks: the same numbers, and never more at once than there is room for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from composer.core.evaluation.baselines import lora_starts
from composer.core.evaluation.trained_loras import train_adapters
from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.model import gradient
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import EXAMPLES, TARGETS, make_base, make_module

SHOTS = [Example(*pair) for pair in EXAMPLES]
SHOWN = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0]])


@pytest.fixture(params=["t5", "llama"])
def world(request, tmp_path):
    folder = make_base(tmp_path / "base", request.param)
    targets = TARGETS[request.param]
    modules = [make_module(tmp_path / str(i), folder, seed=i, targets=targets) for i in range(3)]
    base = FrozenBaseModel.load(folder)
    stack = stack_modules([read_module(module, module.name) for module in modules])
    base.hook(layer.path for layer in stack.layers)
    return FewShotScorer(base, base.encode(SHOTS)), stack


@pytest.fixture
def passes(world, monkeypatch):
    """How many (candidates, examples) each forward pass had."""
    told, nats = [], FrozenBaseModel.token_nats

    def token_nats(self, batch, adapters, n_candidates=1):
        told.append((n_candidates, len(batch)))
        return nats(self, batch, adapters, n_candidates)

    monkeypatch.setattr(FrozenBaseModel, "token_nats", token_nats)
    return told


def room_for(monkeypatch, scorer, pairs):
    """Let a block hold so many candidates times examples."""
    monkeypatch.setattr(gradient, "KEPT_BYTES", pairs * gradient.kept_bytes(scorer.base, scorer.batch))


def loss_and_slope(scorer, method, weights, shots):
    asked = weights.clone().requires_grad_(True)
    loss = scorer.loss_with_gradient(method, asked, shots)
    (slope,) = torch.autograd.grad((loss * torch.tensor([1.0, -2.0, 0.5])).sum(), asked)
    return loss.detach(), slope


@pytest.mark.parametrize("method", [ExactSum, FactorSum])
@pytest.mark.parametrize(
    ("pairs", "expected"), [(2 * len(SHOTS), {len(SHOTS)}), (2, {1, 2}), (1, {1})], ids=str
)
def test_blocks_change_neither_the_loss_nor_its_gradient(world, passes, monkeypatch, method, pairs, expected):
    scorer, stack = world
    weights = torch.tensor([[0.4, -0.3, 0.8], [1.0, 0.5, -0.5], [0.1, 0.2, 0.3]])
    whole = loss_and_slope(scorer, method(stack), weights, SHOWN)
    assert passes == [(3, len(SHOTS))]

    passes.clear()
    room_for(monkeypatch, scorer, pairs)
    parts = loss_and_slope(scorer, method(stack), weights, SHOWN)

    assert max(rows * examples for rows, examples in passes) <= pairs
    assert sum(rows * examples for rows, examples in passes) == 3 * len(SHOTS)
    assert {examples for _, examples in passes} <= expected
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_token_mean_of_the_scores_and_counts_a_step_for_each_candidate(world):
    scorer, stack = world
    method, weights = ExactSum(stack), torch.tensor([[0.4, -0.3, 0.8], [1.0, 0.5, -0.5]])

    loss = scorer.loss_with_gradient(method, weights)

    torch.testing.assert_close(loss, token_mean(scorer.nats(method, weights), scorer.label_tokens))
    assert scorer.gradient_steps == 2


def test_a_lora_trained_in_blocks_is_the_lora_trained_at_once(world, monkeypatch):
    scorer, stack = world
    start = lora_starts(scorer, stack, seed=1, n_fits=len(SHOWN))(True)

    def trained():
        factors = train_adapters(
            scorer.base,
            scorer.batch,
            start,
            rate=5e-3,
            steps=3,  # Adam soon makes much of a rounding
            train_mask=SHOWN,
        )
        return scorer.base.token_nats(scorer.batch, start.candidates(factors), len(SHOWN))

    whole = trained()
    room_for(monkeypatch, scorer, 2)

    torch.testing.assert_close(trained(), whole, rtol=1e-3, atol=1e-3)


@given(st.integers(1, 70), st.integers(1, 70))
def test_slices_cover_everything_once_in_parts_that_fit(n, size):
    parts = gradient.slices(n, size)

    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert all(1 <= part.stop - part.start <= size for part in parts)
    assert len(parts) == -(-n // size)
