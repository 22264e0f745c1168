"""Adapters as trainers write them come in, and compose to peft's own logits or say why they cannot."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from benchmarks.machine import machine
from composer.core.methods.exact import ExactSum
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.errors import ModuleUnreadableError
from modules_registry.core.base_weights import read_base
from modules_registry.core.gate import AdapterFacts, check_adapter
from tests.journeys.generated_adapters import Drawn, base_folder, draw, load_base, logits, save_drawn

USUAL, ALL = 20, 200
RESULTS = Path(__file__).parent / "results.json"  # of all of them
LARGEST_ERROR = 1e-5  # of the largest logit, in fp32
NUMBERS = [
    pytest.param(number, marks=pytest.mark.slow if number < USUAL else pytest.mark.long)
    for number in range(ALL)
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


@dataclass
class Found:
    """What came of one adapter.

    Attributes:
        drawn: what it is.
        facts: what the gate read; None if it was refused.
        error: of its logits, as a share of the largest one; None if it was not composed.
    """

    drawn: Drawn
    facts: AdapterFacts | None = None
    error: float | None = None


@pytest.fixture(scope="module")
def found():
    """What came of each adapter; of all 200 the counts go to results.json."""
    rows: list[Found] = []
    yield rows
    if len(rows) == ALL:
        RESULTS.write_text(json.dumps(summary(rows), indent=1) + "\n", encoding="utf-8")


def summary(rows):
    errors = [row.error for row in rows if row.error is not None]
    facts = [row.facts for row in rows if row.facts is not None]
    repairs = Counter(repair.code for each in facts for repair in each.repairs)
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "adapters": len(rows),
        "refused": len(rows) - len(facts),
        "composed": len(errors),
        "not_composable": sum(bool(each.not_composable) for each in facts),
        "largest_relative_logit_difference": max(errors),
        "by_kind": dict(sorted(Counter(row.drawn.kind for row in rows).items())),
        "by_dtype": dict(sorted(Counter(each.dtype for each in facts).items())),
        "by_peft_version": dict(Counter(row.drawn.version for row in rows)),
        "repairs": dict(sorted(repairs.items())),
        "with_copies_left_out": sum(bool(each.left_out) for each in facts),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", NUMBERS)
def test_an_adapter_comes_in_as_its_trainer_writes_it(bases, found, tmp_path, number):
    drawn = draw(number)
    row = Found(drawn)
    found.append(row)
    base = base_folder(bases, drawn.kind)
    by_peft = save_drawn(drawn, base, tmp_path)
    shapes, own = read_base(base)
    files = (tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors")
    row.facts = check_adapter(*files, shapes, base_weights=own)
    with safe_open(files[1], "np") as file:
        assert row.facts.left_out == {name for name in file.keys() if ".lora_" not in name}  # noqa: SIM118
    if row.facts.not_composable:
        assert "use_dora" in drawn.options
        with pytest.raises(ModuleUnreadableError, match="DoRA"):
            read_module(tmp_path, "drawn", base_weights=own)
        return
    module = read_module(tmp_path, "drawn", base_weights=own)
    composed = load_base(base)
    add_adapter(composed, ExactSum(stack_modules([module])).lora([1.0]))
    row.error = float((logits(composed) - by_peft).abs().max() / by_peft.abs().max())
    assert row.error < LARGEST_ERROR
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
