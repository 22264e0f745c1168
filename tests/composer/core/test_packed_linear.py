"""Packed products are the products, and what is left of the weight cannot be mistaken for it."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from composer.core.model import base_model
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.packed_linear import PackedProduct, can_pack, pack_linear
from composer.core.model.scorer import FewShotScorer
from composer.core.spec.examples import Example
from tests.composer.core.tiny import make_base

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="this torch packs nothing")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_packed_product_is_the_product(dtype, biased):
    if not can_pack(CPU, dtype):
        pytest.skip(f"this processor packs no {dtype} products")
    W, b = torch.randn(24, 40), torch.randn(24) if biased else None
    product = PackedProduct(W, b, dtype)
    for shape in ((40,), (7, 40), (2, 5, 40)):
        x = torch.randn(shape)
        y = product(x.unsqueeze(0))[0]
        expected = torch.nn.functional.linear(x, W, b)
        tolerance = 1e-5 if dtype == torch.float32 else 0.1
        assert y.dtype == torch.float32  # that of x
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


def test_the_gradient_runs_through_to_the_rows_and_not_to_the_weight():
    W, x = torch.randn(24, 40), torch.randn(3, 40, requires_grad=True)
    product = PackedProduct(W, None, torch.float32)
    upstream = torch.randn(3, 24)
    for _ in range(2):  # the transposed weight is laid out once
        (gradient,) = torch.autograd.grad(product(x), x, upstream)
        torch.testing.assert_close(gradient, upstream @ W, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_a_packed_layer_computes_as_before_and_keeps_only_the_shape_of_its_weight(kind):
    layer = torch.nn.Linear(40, 24) if kind == "linear" else Conv1D(24, 40)
    torch.nn.init.normal_(layer.bias)
    x, shape = torch.randn(3, 40), layer.weight.shape
    expected = layer(x).detach()
    pack_linear(layer, torch.float32)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert layer.weight.shape == shape
    assert layer.weight.untyped_storage().nbytes() == 4
    assert layer.weight.isnan().all()


def test_a_base_that_is_not_packed_keeps_every_weight_where_a_hash_can_see_it(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", 0)
    folder = make_base(tmp_path)
    for packs in (True, False):
        base = FrozenBaseModel.load(folder, packs=packs)
        blank = [name for name, weight in base.model.named_parameters() if weight.isnan().any()]
        assert bool(blank) is packs


def test_a_processor_without_packed_bf16_products_multiplies_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", 0)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    folder = make_base(tmp_path)
    rounded = FrozenBaseModel.load(folder, precision="bf16")
    layers = [it for it in rounded.model.modules() if isinstance(it, torch.nn.Linear)]
    assert any(it.weight.dtype == torch.bfloat16 and not it.weight.isnan().any() for it in layers)
    exact = FrozenBaseModel.load(folder)
    examples = [Example("cat dog", "chat")]
    nats = [FewShotScorer(base, base.encode(examples)).nats_of_base() for base in (rounded, exact)]
    torch.testing.assert_close(nats[0], nats[1], rtol=0.01, atol=0.01)
