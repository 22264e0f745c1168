"""Cutting to a rank, and the merges that end with a cut: held to dense matrices and to peft."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from composer.core.methods.base import PlainLora
from composer.core.methods.exact import ExactSum
from composer.core.methods.factorwise import TIES_DENSITY
from composer.core.methods.registry import make_method
from composer.core.methods.svd import TruncatedSum, TruncatedTies, truncate_rank
from composer.core.modules.module_stack import read_module, stack_modules
from tests.composer.core.dense import D_IN, delta_of_adapter, delta_of_module, random_module
from tests.composer.core.tiny import TARGETS, make_base, make_module


@given(st.integers(1, 8), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_cutting_to_a_rank_is_the_best_that_rank_can_do(rank, seed):
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(6, 9, generator=generator), torch.randn(7, 6, generator=generator)
    cut = truncate_rank(PlainLora({"a.q": (A, B)}, rank=6, alpha=3.0), rank)
    whole = 0.5 * B @ A
    U, S, Vh = torch.linalg.svd(whole)
    best = U[:, :rank] @ torch.diag(S[:rank]) @ Vh[:rank] if rank <= 7 else whole
    new_A, new_B = cut.factors["a.q"]
    assert new_A.shape == (rank, 9)
    assert new_B.shape == (7, rank)
    torch.testing.assert_close(cut.alpha / cut.rank * new_B @ new_A, best, rtol=1e-3, atol=1e-4)
    assert cut.energy_kept == pytest.approx(float(S[:rank].square().sum() / S.square().sum()), rel=1e-4)


def test_nothing_cut_is_nothing_lost():
    zero = PlainLora({"a.q": (torch.zeros(4, 9), torch.zeros(7, 4))}, rank=4, alpha=4.0)
    cut = truncate_rank(zero, 2)
    assert cut.energy_kept == 1.0
    assert cut.factors["a.q"][1].abs().sum() == 0


def test_a_cut_of_a_cut_is_that_cut_and_counts_what_both_left_out():
    whole = ExactSum(stack_modules([random_module(0), random_module(1)])).lora([1.0, 0.8])
    once, twice = truncate_rank(whole, 1), truncate_rank(truncate_rank(whole, 2), 1)
    for path in ("a.q", "a.v"):
        torch.testing.assert_close(delta_of_adapter(twice, path), delta_of_adapter(once, path))
    assert twice.energy_kept == pytest.approx(once.energy_kept)


def nearest(delta: Tensor, rank: int) -> Tensor:
    U, S, Vh = torch.linalg.svd(delta)
    return U[:, :rank] @ torch.diag(S[:rank]) @ Vh[:rank]


MODULES = [random_module(0), random_module(1, rank=3), random_module(2, alpha=1.0, paths=("a.v", "b.q"))]
WEIGHTS = (0.6, -1.0, 0.8)


def test_svd_is_the_best_that_the_modules_own_rank_can_do_with_their_sum():
    lora = TruncatedSum(stack_modules(MODULES)).lora(WEIGHTS)
    assert lora.rank == 3
    kept = whole = 0.0
    for path in ("a.q", "a.v", "b.q"):
        delta = sum(w * delta_of_module(m, path) for w, m in zip(WEIGHTS, MODULES, strict=True))
        torch.testing.assert_close(delta_of_adapter(lora, path), nearest(delta, 3), rtol=1e-4, atol=1e-5)
        kept += float(nearest(delta, 3).square().sum())
        whole += float(delta.square().sum())
    assert lora.energy_kept == pytest.approx(kept / whole, rel=1e-5)
    assert lora.energy_kept < 1


@pytest.mark.parametrize("method", [TruncatedSum, TruncatedTies])
@pytest.mark.parametrize(("kept", "rank"), [([0], 2), ([0, 2], 2), ([1, 2], 3), ([0, 1, 2], 3)])
def test_the_cut_is_to_the_largest_rank_of_the_modules_that_were_chosen(method, kept, rank):
    chosen = stack_modules(MODULES).subset(kept)
    assert chosen.rank == 3  # of the whole stack
    assert method(chosen).lora([0.5] * len(kept)).rank == rank


def ties_by_hand(deltas: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Entry by entry: trim, elect, average the weighted values of those that agree."""
    trimmed = []
    for delta in deltas:
        n_kept = int(TIES_DENSITY * delta.numel())
        smallest_kept = delta.abs().flatten().sort(descending=True).values[n_kept - 1]
        trimmed.append(torch.where(delta.abs() >= smallest_kept, delta, 0.0))
    merged = torch.zeros_like(deltas[0])
    for row in range(merged.shape[0]):
        for column in range(merged.shape[1]):
            values = [float(delta[row, column]) for delta in trimmed]
            positive = sum(values) >= 0
            agreed = [w * v for w, v in zip(weights, values, strict=True) if v and (v > 0) == positive]
            merged[row, column] = sum(agreed) / max(1, len(agreed))
    return merged


def test_ties_on_updates_is_trim_elect_merge_and_cut():
    modules = [random_module(i, rank=r, alpha=a) for i, (r, a) in enumerate(((2, 4.0), (3, 6.0), (2, 1.0)))]
    method = TruncatedTies(stack_modules(modules))
    lora = method.lora(WEIGHTS)
    x = torch.randn(1, 6, D_IN, generator=torch.Generator().manual_seed(5))
    added = method.adapters(torch.tensor([WEIGHTS]))
    for path in ("a.q", "a.v"):
        expected = ties_by_hand([delta_of_module(m, path) for m in modules], WEIGHTS)
        torch.testing.assert_close(added[path](x)[0], x[0] @ expected.T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(delta_of_adapter(lora, path), nearest(expected, 3), rtol=1e-4, atol=1e-5)


def merged_by_peft(base: Path, folders: list[Path], weights: tuple[float, ...], name: str):
    kind = AutoModelForSeq2SeqLM if "t5" in base.name else AutoModelForCausalLM
    model = PeftModel.from_pretrained(kind.from_pretrained(base), folders[0], adapter_name="0")
    for i in range(1, len(folders)):
        model.load_adapter(folders[i], adapter_name=str(i))
    names = [str(i) for i in range(len(folders))]
    model.add_weighted_adapter(names, list(weights), "merged", combination_type=name, density=TIES_DENSITY)
    return model.base_model.model


@pytest.mark.parametrize("name", ["svd", "ties_svd"])
@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_the_merge_is_the_one_peft_makes(tmp_path, kind, name):
    base = make_base(tmp_path / kind, kind)
    folders = [
        make_module(tmp_path / str(i), base, seed=i, rank=2 + i % 2, alpha=4.0 + 4 * i, targets=TARGETS[kind])
        for i in range(3)
    ]
    theirs = merged_by_peft(base, folders, WEIGHTS, name)
    stack = stack_modules([read_module(folder, folder.name) for folder in folders])
    ours = make_method(name, stack, seed=0).lora(WEIGHTS)
    for path in ours.factors:
        layer = theirs.get_submodule(path)
        expected = layer.lora_B["merged"].weight @ layer.lora_A["merged"].weight  # alpha = r
        torch.testing.assert_close(delta_of_adapter(ours, path), expected, rtol=1e-3, atol=1e-4)


def test_a_rank_stabilised_module_keeps_its_scale_where_peft_loses_it(tmp_path):
    base = make_base(tmp_path / "t5")
    folders = [make_module(tmp_path / str(i), base, seed=i, rank=4, rslora=True) for i in range(2)]
    modules = [read_module(folder, folder.name) for folder in folders]
    lora = TruncatedSum(stack_modules(modules)).lora((1.0, 0.0))
    theirs = merged_by_peft(base, folders, (1.0, 0.0), "svd")
    for path, (A, B) in modules[0].factors.items():
        own = 4 / 4**0.5 * B @ A  # alpha / √r
        torch.testing.assert_close(delta_of_adapter(lora, path), own, rtol=1e-3, atol=1e-4)
        wrong = theirs.get_submodule(path).get_delta_weight("merged")
        torch.testing.assert_close(wrong, 2 * own, rtol=1e-3, atol=1e-4)  # too large by √r
