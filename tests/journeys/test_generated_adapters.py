"""Adapters as trainers write them come in, and compose to peft's own logits or say why they cannot."""

import pytest
import torch

from composer.core.methods.exact import ExactSum
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.errors import ModuleUnreadableError
from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.gate import check_adapter
from tests.journeys.generated_adapters import base_folder, draw, load_base, logits, save_drawn

USUAL, ALL = 20, 200
LARGEST_ERROR = 1e-5  # of the largest logit, in fp32
NUMBERS = [
    pytest.param(number, marks=pytest.mark.slow if number < USUAL else pytest.mark.long)
    for number in range(ALL)
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", NUMBERS)
def test_an_adapter_comes_in_as_its_trainer_writes_it(bases, tmp_path, number):
    drawn = draw(number)
    base = base_folder(bases, drawn.kind)
    by_peft = save_drawn(drawn, base, tmp_path)
    shapes = base_shapes_of(base / "config.json", sorted(base.glob("*.safetensors")))
    facts = check_adapter(tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors", shapes)
    if facts.not_composable:
        assert "use_dora" in drawn.options
        with pytest.raises(ModuleUnreadableError, match="DoRA"):
            read_module(tmp_path, "drawn")
        return
    composed = load_base(base)
    add_adapter(composed, ExactSum(stack_modules([read_module(tmp_path, "drawn")])).lora([1.0]))
    error = (logits(composed) - by_peft).abs().max() / by_peft.abs().max()
    assert float(error) < LARGEST_ERROR
    assert not torch.allclose(logits(load_base(base)), by_peft)  # it does change something


def add_adapter(model, lora):
    """Add the deltas to the weights; GPT-2 keeps some of them transposed."""
    layers = dict(model.named_modules())
    tied = model.config.tie_word_embeddings and "lm_head" in lora.factors
    if tied:  # an adapter changes the head alone, not the embedding that it shares
        layers["lm_head"].weight = torch.nn.Parameter(layers["lm_head"].weight.detach().clone())
    for path, (A, B) in lora.factors.items():
        delta = lora.alpha / lora.rank * (B.double() @ A.double())
        weight = layers[path].weight
        weight.data += (delta.T if type(layers[path]).__name__ == "Conv1D" else delta).float()
