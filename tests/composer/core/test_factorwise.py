"""Merging factor by factor, held to peft."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

from composer.core.methods.factorwise import RULES, TIES_DENSITY, Factorwise, drop_at_random
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.errors import MismatchedModulesError
from tests.composer.core.tiny import make_base, make_module

PEFT_NAME = {"linear": "linear", "ties": "ties", "magnitude": "magnitude_prune"}
DENSITY = {"linear": None, "ties": TIES_DENSITY, "magnitude": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    base = make_base(folder / "base")
    return base, [make_module(folder / str(i), base, seed=i, rank=4, alpha=4.0 + 4 * i) for i in range(3)]


@pytest.mark.parametrize("name", list(PEFT_NAME))
@pytest.mark.parametrize("weights", [(0.5, 1.0, 0.25), (1.0, -0.7, 0.0)])
def test_the_merge_is_the_one_peft_makes(world, name, weights):
    base, folders = world
    model = PeftModel.from_pretrained(
        AutoModelForSeq2SeqLM.from_pretrained(base), folders[0], adapter_name="0"
    )
    for i in (1, 2):
        model.load_adapter(folders[i], adapter_name=str(i))
    model.add_weighted_adapter(
        ["0", "1", "2"], list(weights), "merged", combination_type=PEFT_NAME[name], density=DENSITY[name]
    )
    stack = stack_modules([read_module(folder, folder.name) for folder in folders])
    ours = Factorwise(name, stack, seed=0).lora(weights)
    for path, (A, B) in ours.factors.items():
        layer = model.base_model.model.get_submodule(path)
        expected = layer.get_delta_weight("merged")
        torch.testing.assert_close(ours.alpha / ours.rank * B @ A, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(RULES))
def test_what_a_candidate_adds_is_what_its_adapter_adds(world, name):
    _, folders = world
    method = Factorwise(name, stack_modules([read_module(folder, folder.name) for folder in folders]), seed=1)
    path, (A, B) = next(iter(method.lora([0.3, -0.5, 1.0]).factors.items()))
    x = torch.randn(1, 3, A.shape[1], generator=torch.Generator().manual_seed(0))
    added = method.adapters(torch.tensor([[0.3, -0.5, 1.0]]))[path](x)
    torch.testing.assert_close(added[0], x[0] @ (B @ A).T, rtol=1e-4, atol=1e-5)


def test_dropping_at_random_keeps_the_mean_and_repeats_with_its_seed():
    ones = torch.ones(2, 200, 200)
    dropped = drop_at_random(ones, torch.Generator().manual_seed(3), density=0.5)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(dropped, drop_at_random(ones, torch.Generator().manual_seed(3), density=0.5))


def test_modules_of_different_rank_are_refused(world, tmp_path):
    base, folders = world
    other = make_module(tmp_path / "other", base, seed=9, rank=2)
    stack = stack_modules([read_module(folder, folder.name) for folder in (folders[0], other)])
    with pytest.raises(MismatchedModulesError, match="ties"):
        Factorwise("ties", stack, seed=0)
