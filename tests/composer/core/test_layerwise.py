"""LoRA Soups CAT and its free twin, held to dense updates layer by layer."""

import math

import pytest
import torch

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import LayerwiseSoftmax, LayerwiseWeights
from composer.core.modules.module_stack import stack_modules
from tests.composer.core.dense import D_IN, D_OUT, delta_of_adapter, delta_of_module, random_module

# Only the third changes b.q, and it lacks a.q; ranks and alpha / r differ.
MODULES = [random_module(0), random_module(1, rank=3), random_module(2, alpha=1.0, paths=("a.v", "b.q"))]
LAYERS = ("a.q", "a.v", "b.q")  # in the order of the stack
WEIGHTS = (0.5, -1.0, 0.3, 0.2, 0.7, -0.4, 9.0, 9.0, 1.2)  # layer by layer


def summed(path, coefficients):
    return sum(
        (c * delta_of_module(m, path) for c, m in zip(coefficients, MODULES, strict=True)),
        torch.zeros(D_OUT, D_IN),
    )


def test_free_coefficients_weigh_each_layer_by_itself():
    lora = LayerwiseWeights(stack_modules(MODULES)).lora(WEIGHTS)
    for i, path in enumerate(LAYERS):
        torch.testing.assert_close(delta_of_adapter(lora, path), summed(path, WEIGHTS[3 * i : 3 * i + 3]))
    assert lora.rank == lora.alpha == 2 + 3 + 2


def test_cat_is_a_softmax_over_the_modules_that_change_the_layer():
    lora = LayerwiseSoftmax(stack_modules(MODULES)).lora(WEIGHTS)
    first, second = math.exp(0.5), math.exp(-1.0)
    in_q = (first / (first + second), second / (first + second), 0.0)
    e = [math.exp(w) for w in WEIGHTS[3:6]]
    torch.testing.assert_close(delta_of_adapter(lora, "a.q"), summed("a.q", in_q))
    torch.testing.assert_close(delta_of_adapter(lora, "a.v"), summed("a.v", [x / sum(e) for x in e]))
    torch.testing.assert_close(delta_of_adapter(lora, "b.q"), summed("b.q", (0.0, 0.0, 1.0)))


def test_cat_starts_as_the_uniform_average_and_its_twin_as_nothing():
    stack = stack_modules([random_module(0), random_module(1)])
    cat, free = LayerwiseSoftmax(stack), LayerwiseWeights(stack)
    assert cat.n_weights == free.n_weights == len(cat.start) == 2 * 2
    uniform = ExactSum(stack).lora([0.5, 0.5])
    for path in ("a.q", "a.v"):
        torch.testing.assert_close(
            delta_of_adapter(cat.lora(cat.start.tolist()), path), delta_of_adapter(uniform, path)
        )
        assert delta_of_adapter(free.lora(free.start.tolist()), path).abs().max() == 0


@pytest.mark.parametrize("method_class", [LayerwiseWeights, LayerwiseSoftmax])
def test_a_gradient_moves_every_number_that_can_change_something(method_class):
    method = method_class(stack_modules(MODULES))
    x = torch.randn(1, 3, D_IN, generator=torch.Generator().manual_seed(0))
    weights = method.start.unsqueeze(0).requires_grad_(True)
    adapters = method.adapters(weights)
    loss = sum((adapters[path](x) - 1).square().sum() for path in LAYERS)
    (gradient,) = torch.autograd.grad(loss, weights)
    moves = (gradient[0] != 0).tolist()
    holders = [True, True, False, True, True, True, False, False, True]
    if method_class is LayerwiseSoftmax:
        holders[8] = False  # alone in its layer, its share is 1 whatever its logit
    assert gradient.isfinite().all()
    assert moves == holders


def test_modules_are_told_by_the_mean_over_the_layers_they_change():
    method = LayerwiseWeights(stack_modules(MODULES))
    assert method.by_module(WEIGHTS) == pytest.approx((0.35, -0.15, (-0.4 + 1.2) / 2))
    expected = torch.tensor([[0.5, -1.0, 0.0], [0.2, 0.7, -0.4], [0.0, 0.0, 1.2]], dtype=torch.float64)
    torch.testing.assert_close(method.by_layer(WEIGHTS), expected)
    shares = LayerwiseSoftmax(stack_modules(MODULES)).by_layer(WEIGHTS)
    torch.testing.assert_close(shares.sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("method_class", [LayerwiseWeights, LayerwiseSoftmax])
def test_a_layer_that_no_chosen_module_changes_stays_as_it_is(method_class):
    method = method_class(stack_modules(MODULES).subset([0, 1]))
    lora = method.lora([0.1] * method.n_weights)
    assert delta_of_adapter(lora, "b.q").abs().max() == 0
    weights = method.start.unsqueeze(0).requires_grad_(True)
    (gradient,) = torch.autograd.grad(method.adapters(weights)["a.q"](torch.ones(1, 1, D_IN)).sum(), weights)
    assert gradient.isfinite().all()
    assert all(math.isfinite(share) for share in method.by_module(method.start.tolist()))
