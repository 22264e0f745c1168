"""The fast path of T5 gives what transformers' own forward pass gives, losses and gradients alike."""

import itertools
from functools import cache

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from composer.core.methods.base import SharedFactors, single_modules
from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.model import base_model, t5
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.t5 import Run, rows_of
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import SIZE, make_module, saved_files, tiny_tokenizer, write_files

# Equal lengths, in a row and apart; the longest answer with the shortest input.
EXAMPLES = (
    Example("cat dog fig saw", "chat"),
    Example("cat", "chat chien figue scie"),
    Example("dog fig", "chien"),
    Example("saw bay", "scie"),
    Example("leg hat cat dog fig saw", "CAT DOG"),
    Example("hat bay", "baie chat"),
)
ALL_LAYERS = ("q", "k", "v", "o", "wo", "wi_0", "wi_1", "wi")


@cache
def t5_files(*, gated: bool, tied: bool):
    config = T5Config(
        vocab_size=SIZE,
        d_model=16,
        d_kv=8,
        num_heads=4,  # not d_model / d_kv, as in flan-t5-small
        d_ff=32,
        num_layers=3,
        num_decoder_layers=2,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=tied,
    )
    return saved_files(lambda: T5ForConditionalGeneration(config), tiny_tokenizer(with_eos=True), seed=0)


def loaded(tmp_path, targets, *, gated=True, tied=True, precision="fp32"):
    folder = write_files(tmp_path / "base", t5_files(gated=gated, tied=tied))
    base = FrozenBaseModel.load(folder, precision=precision)
    paths = [path for path in base.linear_layers() if path.rpartition(".")[2] in targets]
    assert paths
    modules = [
        read_module(make_module(tmp_path / str(i), folder, seed=i, targets=targets), str(i)) for i in range(3)
    ]
    stack = stack_modules(modules)
    base.hook(layer.path for layer in stack.layers)
    return base, stack


def by_transformers(base, batch, adapters, n_candidates):
    """The slow way: padded, through transformers' own forward pass and our hooks."""
    fast, base._t5 = base._t5, None
    try:
        return base.token_nats(batch, adapters, n_candidates)
    finally:
        base._t5 = fast


@pytest.fixture(params=["few ask", "many ask"])
def margin(request, monkeypatch):
    """Both ways of cross attention, whatever the sizes."""
    monkeypatch.setattr(t5, "FEW_ASK_MARGIN", 0 if request.param == "few ask" else 1e9)


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", 0 if request.param == "packed" else 1e9)


@pytest.mark.slow
@pytest.mark.parametrize(("gated", "tied"), list(itertools.product([True, False], repeat=2)))
def test_the_base_alone_scores_as_in_transformers(tmp_path, gated, tied, margin, products):
    base, _ = loaded(tmp_path, ("q", "v"), gated=gated, tied=tied)
    batch = base.encode(EXAMPLES)
    with torch.no_grad():
        torch.testing.assert_close(
            base.token_nats(batch, {}), by_transformers(base, batch, {}, 1), rtol=1e-5, atol=0
        )


@pytest.mark.slow
@pytest.mark.parametrize("targets", [("q", "v"), ALL_LAYERS])
@pytest.mark.parametrize("method", [ExactSum, FactorSum])
def test_candidates_and_their_gradients_are_as_in_transformers(tmp_path, targets, method, margin, products):
    base, stack = loaded(tmp_path, targets)
    batch = base.encode(EXAMPLES)
    found = []
    for score in (base.token_nats, lambda *args: by_transformers(base, *args)):
        w = torch.tensor([[0.9, -0.4, 0.2], [0.0, 0.5, 0.1]], requires_grad=True)
        nats = score(batch, method(stack).adapters(w), 2)
        (gradient,) = torch.autograd.grad(nats.sum(), w)
        found.append((nats.detach(), gradient))
    (nats, gradient), (expected_nats, expected_gradient) = found
    assert nats.shape == (2, len(EXAMPLES))
    torch.testing.assert_close(nats, expected_nats, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


def test_every_candidate_is_scored_as_if_it_were_alone(tmp_path, margin, products):
    base, stack = loaded(tmp_path, ALL_LAYERS)
    batch = base.encode(EXAMPLES)
    with torch.no_grad():
        together = base.token_nats(batch, single_modules(stack, [0, 1, 2]), 3)
        apart = [base.token_nats(batch, single_modules(stack, [i])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=0)


def test_a_score_leaves_the_next_one_as_it_was(tmp_path, products):
    """Adding to an output in place must never reach a weight or the next candidate."""
    base, stack = loaded(tmp_path, ALL_LAYERS)
    batch = base.encode(EXAMPLES)
    with torch.no_grad():
        before = base.token_nats(batch, {})
        base.token_nats(batch, single_modules(stack, [0, 1]), 2)
        assert torch.equal(base.token_nats(batch, {}), before)


def test_bf16_products_move_a_loss_by_little(tmp_path, margin, products):
    base, stack = loaded(tmp_path, ("q", "v"), precision="bf16")
    exact, _ = loaded(tmp_path / "again", ("q", "v"))
    adapters = ExactSum(stack).adapters(torch.tensor([[0.5, 0.2, -0.1]]))
    with torch.no_grad():
        rounded = base.token_nats(base.encode(EXAMPLES), adapters)
        whole = exact.token_nats(exact.encode(EXAMPLES), adapters)
    assert not torch.equal(rounded, whole)
    torch.testing.assert_close(rounded, whole, rtol=0.03, atol=0.03)


def test_rows_hold_the_tokens_of_the_short_examples_first_and_no_padding():
    inputs = {
        "input_ids": torch.tensor([[7, 8, 9], [5, 1, 0], [6, 1, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0]]),
        "decoder_input_ids": torch.tensor([[0, 4], [0, 3], [0, 2]]),
    }
    rows = rows_of(inputs, torch.tensor([[4, 1], [3, 1], [2, 1]]))
    assert rows.order.tolist() == [1, 2, 0]
    assert rows.source_ids.tolist() == [5, 1, 6, 1, 7, 8, 9]
    assert rows.target_ids.tolist() == [0, 3, 0, 2, 0, 4]
    assert rows.labels.tolist() == [3, 1, 2, 1, 4, 1]
    assert rows.example.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.runs == (Run(2, 0, 2, 0, 2), Run(1, 4, 3, 4, 2))


def test_a_gradient_through_shared_factors_reaches_every_weight(tmp_path, margin, products):
    """By finite differences, in place of any other implementation."""
    base, stack = loaded(tmp_path, ("q", "v"))
    batch, method = base.encode(EXAMPLES), ExactSum(stack)
    w = torch.tensor([[0.3, -0.2, 0.4]], requires_grad=True)
    adapters = method.adapters(w)
    assert all(isinstance(adapter, SharedFactors) for adapter in adapters.values())
    (gradient,) = torch.autograd.grad(base.token_nats(batch, adapters).sum(), w)
    step = 0.02
    with torch.no_grad():
        shifted = torch.cat([w + step * torch.eye(3), w - step * torch.eye(3)])
        sums = base.token_nats(batch, method.adapters(shifted), 6).sum(-1)
    slopes = (sums[:3] - sums[3:]) / (2 * step)
    torch.testing.assert_close(gradient[0], slopes, rtol=0.02, atol=0.05)
