"""`Composition.model(base=…)`: an adapter goes on the base it was composed for, and on no smaller one."""

import re

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from composer.core.modules.module_stack import describe_module
from composer.core.modules.sources import Source
from composer.core.spec.errors import InvalidJobError
from composer.library.composition import Composition, require_layers_of
from tests.composer.core.tiny import TARGETS, make_base, make_module

# The kind of the base: how its config names its layers and its width.
NAMES = {"llama": ("num_hidden_layers", "hidden_size"), "gpt2": ("n_layer", "n_embd")}


@pytest.fixture(params=NAMES)
def made(request, tmp_path):
    """A composition as `compose` leaves it, its base, and a maker of models that differ from it."""
    base = make_base(tmp_path / "base", request.param)
    adapter = make_module(tmp_path / "adapter", base, seed=0, targets=TARGETS[request.param])
    (adapter / "report.json").write_text('{"baselines": []}')
    layers, width = NAMES[request.param]

    def model(*, more_layers=0, times_as_wide=1):
        config = AutoConfig.from_pretrained(base)
        changed = {
            layers: getattr(config, layers) + more_layers,
            width: getattr(config, width) * times_as_wide,
        }
        config.update(changed)
        return AutoModelForCausalLM.from_config(config)

    return Composition(adapter, Source("demo/tiny", base)), model


def test_a_base_with_fewer_layers_is_refused_with_both_names(made):
    composition, model = made
    small = model(more_layers=-1)
    small.name_or_path = "demo/smaller"
    kind = type(small).__name__
    with pytest.raises(InvalidJobError) as refusal:
        composition.model(base=small)
    said = str(refusal.value)
    assert f"does not fit this {kind} (demo/smaller): it was composed for demo/tiny." in said
    assert re.search(r"Of the \d+ layers that it changes, \d+ (is|are) missing or of another size", said)
    assert "is missing there. Give a model with the layers of demo/tiny." in said
    assert not any("lora" in name for name, _ in small.named_parameters())  # it was not touched


def test_a_base_of_another_width_is_refused_with_both_sizes(made):
    composition, model = made
    with pytest.raises(InvalidJobError, match=r"\(\d+ × \d+\) is \d+ × \d+ there"):
        composition.model(base=model(times_as_wide=2))


def test_a_base_of_one_s_own_with_all_layers_is_taken_also_a_second_time(made):
    composition, model = made
    own = model()
    names = {name for name, _ in composition.model(base=own).named_parameters() if "lora_B" in name}
    assert names
    again = composition.model(base=own)
    assert {name for name, _ in again.named_parameters() if "lora_B" in name} == names


class Quantized(torch.nn.Module):
    """A layer whose class says nothing of its size, as quantizing libraries put it in."""


def test_a_layer_of_a_kind_that_says_no_size_counts_as_fitting(made):
    composition, model = made
    own = model()
    path = describe_module(composition.folder, "adapter").layers[0].path
    parent, _, name = path.rpartition(".")
    setattr(own.get_submodule(parent), name, Quantized())
    require_layers_of(composition.folder, own, "demo/tiny")
