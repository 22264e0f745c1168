"""The formulas, held to dense deltas computed by hand and to peft."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

from composer.core.methods.base import single_modules
from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.modules.module_stack import LoraModule, ModuleStack, stack_modules
from composer.core.spec.errors import MismatchedModulesError, NoModulesError
from tests.composer.core.dense import D_IN, D_OUT, delta_of_adapter, delta_of_module, random_module
from tests.composer.core.tiny import make_base, make_module

weights_of_three = st.lists(st.floats(-1.5, 1.5, width=32), min_size=3, max_size=3)


@given(weights_of_three)
@settings(max_examples=30, deadline=None)
def test_the_exact_sum_adds_the_modules_own_deltas(weights):
    modules = [random_module(0), random_module(1, rank=3), random_module(2, alpha=1.0, paths=("a.v", "b.q"))]
    lora = ExactSum(stack_modules(modules)).lora(weights)
    for path in ("a.q", "a.v", "b.q"):
        expected = sum(w * delta_of_module(m, path) for w, m in zip(weights, modules, strict=True))
        torch.testing.assert_close(delta_of_adapter(lora, path), expected, rtol=1e-4, atol=1e-5)


def test_the_exact_sum_keeps_only_the_ranks_it_needs():
    stack = stack_modules([random_module(0), random_module(1, rank=3), random_module(2)])
    lora = ExactSum(stack).lora([0.5, 0.0, -1.0])
    assert lora.rank == lora.alpha == 4
    assert ExactSum(stack).lora([0.0, 0.0, 0.0]).factors["a.q"][1].abs().sum() == 0


@given(weights_of_three)
@settings(max_examples=30, deadline=None)
def test_the_product_of_sums_is_equation_one(weights):
    modules = [random_module(0), random_module(1), random_module(2)]
    lora = FactorSum(stack_modules(modules)).lora(weights)
    A = sum(w * m.factors["a.q"][0] for w, m in zip(weights, modules, strict=True))
    B = sum(w * m.factors["a.q"][1] for w, m in zip(weights, modules, strict=True))
    torch.testing.assert_close(delta_of_adapter(lora, "a.q"), 2.0 * B @ A, rtol=1e-4, atol=1e-5)


def test_one_module_at_half_weight_keeps_a_quarter_of_its_delta_in_a_product_of_sums():
    stack = stack_modules([random_module(1)])
    half, whole = FactorSum(stack).lora([0.5]), FactorSum(stack).lora([1.0])
    torch.testing.assert_close(delta_of_adapter(half, "a.q"), 0.25 * delta_of_adapter(whole, "a.q"))
    half_exact = ExactSum(stack).lora([0.5])
    torch.testing.assert_close(delta_of_adapter(half_exact, "a.q"), 0.5 * delta_of_adapter(whole, "a.q"))


def test_a_product_of_sums_does_not_know_the_sign():
    method = FactorSum(stack_modules([random_module(0), random_module(1)]))
    torch.testing.assert_close(
        delta_of_adapter(method.lora([0.7, -0.2]), "a.q"), delta_of_adapter(method.lora([-0.7, 0.2]), "a.q")
    )


@pytest.mark.parametrize("method_class", [ExactSum, FactorSum])
def test_what_a_candidate_adds_is_what_its_adapter_adds(method_class):
    method = method_class(stack_modules([random_module(0), random_module(1), random_module(2)]))
    weights = torch.tensor([[0.3, -1.0, 0.7], [1.0, 0.0, 0.0]])
    x = torch.randn(2, 6, D_IN, generator=torch.Generator().manual_seed(5))
    added = method.adapters(weights)["a.v"](x)
    for row, w in enumerate(weights.tolist()):
        torch.testing.assert_close(
            added[row], x[row] @ delta_of_adapter(method.lora(w), "a.v").T, rtol=1e-4, atol=1e-5
        )


def test_a_single_module_is_that_module_whatever_its_rank():
    modules = [random_module(0), random_module(1, rank=3), random_module(2, paths=("b.q",))]
    x = torch.randn(2, 6, D_IN, generator=torch.Generator().manual_seed(5))
    adapters = single_modules(stack_modules(modules), [1, 2])
    torch.testing.assert_close(adapters["a.q"](x)[0], x[0] @ delta_of_module(modules[1], "a.q").T)
    assert adapters["a.q"](x)[1].abs().max() == 0


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (random_module(1, rank=3), "rank 3"),
        (random_module(1, alpha=8.0), "alpha / r = 4"),
        (random_module(1, paths=("a.q",)), "other layers"),
    ],
)
def test_a_product_of_sums_refuses_what_it_would_mix_up(other, reason):
    with pytest.raises(MismatchedModulesError, match=reason) as refusal:
        FactorSum(stack_modules([random_module(0), other]))
    assert "m1" in str(refusal.value)


def test_layers_of_another_size_are_refused():
    wide = LoraModule("wide", 2, 1.0, {"a.q": (torch.zeros(2, D_IN + 1), torch.zeros(D_OUT, 2))})
    with pytest.raises(MismatchedModulesError, match=r"a\.q"):
        stack_modules([random_module(0), wide])
    with pytest.raises(NoModulesError):
        stack_modules([])


def test_a_subset_is_the_stack_of_those_modules():
    modules = [random_module(0), random_module(1), random_module(2)]
    subset: ModuleStack = stack_modules(modules).subset([2, 0])
    assert subset.names == ("m2", "m0")
    for (path, A, B), (expected_path, expected_A, expected_B) in zip(
        subset.factors(), stack_modules([modules[2], modules[0]]).factors(), strict=True
    ):
        assert path == expected_path
        assert torch.equal(A, expected_A)
        assert torch.equal(B, expected_B)


def test_one_module_alone_computes_what_peft_computes(tmp_path):
    base = make_base(tmp_path / "base")
    folder = make_module(tmp_path / "m", base, seed=3)
    from composer.core.model.base_model import FrozenBaseModel
    from composer.core.modules.module_stack import read_module
    from composer.core.spec.examples import Example

    ours = FrozenBaseModel.load(base)
    stack = stack_modules([read_module(folder, "m")])
    ours.hook(layer.path for layer in stack.layers)
    batch = ours.encode([Example("cat dog", "chat"), Example("fig", "figue figue")])
    theirs = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        expected = theirs(**batch.inputs).logits
        torch.testing.assert_close(
            ours.logits(batch, single_modules(stack, [0])), expected, rtol=1e-4, atol=1e-5
        )
        assert (ours.logits(batch, {}) - expected).abs().max() > 0.01
