"""Adapters changed at random: refused with a type, quickly, or loaded by peft and the base unchanged."""

import hashlib
import io
import json
import math
import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import T5Config, T5ForConditionalGeneration

from modules_registry.core.adapter_writing import rewrite_tensors
from modules_registry.core.errors import GateRefusal
from modules_registry.core.gate import AdapterFacts, check_adapter
from tests.attacks.adapters import (
    BASE_SHAPES,
    D_IN,
    D_OUT,
    DROPPED,
    PLAIN_CONFIG,
    RANK,
    TARGETED,
    Tensor,
    assembled,
    data_of,
    described,
    floats,
    name,
    plain_tensors,
    tensor,
)
from tests.attacks.gate_cases import STRANGE_NAMES
from tests.attacks.results import record_result

pytestmark = pytest.mark.slow  # of loading in peft
TESTS_ARE_LONG = bool(os.environ.get("HUB_TEST_LONG"))
EXAMPLES = 20_000 if TESTS_ARE_LONG else 200
SLOWEST_S = 1.0  # of computing, for the gate alone

keys = st.sampled_from([
    *PLAIN_CONFIG, "use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "tomorrow",
    "modules_to_save", "init_lora_weights", "layers_pattern", "exclude_modules", "auto_mapping",
    "peft_version",
])  # fmt: skip
values = st.sampled_from([
    None, True, False, 0, 1, 2, 3, -1, 8, 0.5, 1e30, "", "x", "q", "(a+)+$", ".*", [], ["q"], ["q", "v"],
    ["k"], {}, {"q": 2}, {"q": 4}, {"k": 2}, "LORA", "lora", "IA3", "CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS",
    "pissa", "eva", "gaussian", "gpt2", "../x", DROPPED,
])  # fmt: skip
strange_names = st.sampled_from([key for names in STRANGE_NAMES.values() for key in names])
dtypes = st.sampled_from(["F32", "F16", "BF16", "F64", "I8"])
numbers = st.sampled_from([0.0, 0.5, -1.0, 65_504.0, 70_000.0, float("nan"), float("inf"), 1e-40])
shapes = st.sampled_from(
    [(RANK, D_IN), (D_OUT, RANK), (3, D_IN), (D_OUT, 3), (D_OUT,), (0,), (), (2, 2, 2), (32, D_IN)]
)
Tensors = dict[str, Tensor]


def drop(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    gone = draw(st.sampled_from(sorted(tensors)))
    return {key: value for key, value in tensors.items() if key != gone}


def rename(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    old, new = draw(st.sampled_from(sorted(tensors))), draw(strange_names)
    return {new if key == old else key: value for key, value in tensors.items()}


def reshape(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    return tensors | {draw(st.sampled_from(sorted(tensors))): tensor(*draw(shapes), dtype=draw(dtypes))}


def set_a_value(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    key = draw(st.sampled_from(sorted(tensors)))
    _, shape, _ = tensors[key]
    return tensors | {key: ("F32", shape, floats([0.5] * (math.prod(shape) - 1) + [draw(numbers)]))}


def add_a_layer(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    path = draw(st.sampled_from([*TARGETED, *BASE_SHAPES, "encoder.block.7.q"]))
    b = tensor(BASE_SHAPES.get(path, [D_OUT])[0], RANK)
    return tensors | {name(path, "A"): tensor(RANK, D_IN), name(path, "B"): b}


def add_magnitudes(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    size = draw(st.sampled_from([D_OUT, D_IN]))
    return tensors | {f"base_model.model.{path}.lora_magnitude_vector": tensor(size) for path in TARGETED}


def add_a_prefix(draw: st.DrawFn, tensors: Tensors) -> Tensors:
    prefix = draw(st.sampled_from(["module.", "_orig_mod.", "base_model.model.", "x."]))
    return {f"{prefix}{key}": value for key, value in tensors.items()}


CHANGES = (drop, rename, reshape, set_a_value, add_a_layer, add_magnitudes, add_a_prefix)


@st.composite
def mutated_tensors(draw: st.DrawFn) -> Tensors:
    """The plain tensors, some of them dropped, renamed, of other shapes, types and values."""
    tensors = plain_tensors(draw(st.sampled_from(["F32", "F16", "BF16"])))
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
        tensors = change(draw, tensors)
    return tensors


@st.composite
def mutated_bytes(draw: st.DrawFn, plain: bytes) -> bytes:
    """The file itself: whole for the most part, or cut, longer, or with another byte somewhere."""
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "longer", "byte"])):
        case "cut":
            return plain[: draw(st.integers(0, len(plain)))]
        case "longer":
            return plain + draw(st.binary(min_size=1, max_size=8))
        case "byte" if plain:
            position = draw(st.integers(0, len(plain) - 1))
            return (
                plain[:position]
                + bytes([plain[position] ^ draw(st.integers(1, 255))])
                + plain[position + 1 :]
            )
    return plain


@st.composite
def mutated_adapters(draw: st.DrawFn) -> tuple[bytes, bytes]:
    changes: dict[str, Any] = draw(st.dictionaries(keys, values, max_size=2))
    config = {key: value for key, value in (PLAIN_CONFIG | changes).items() if value is not DROPPED}
    tensors = draw(mutated_tensors())
    weights = assembled(described(tensors), data_of(tensors))
    return draw(mutated_bytes(json.dumps(config).encode())), draw(mutated_bytes(weights))


@pytest.fixture(scope="module")
def base_model() -> T5ForConditionalGeneration:
    """The base model whose layers are those of BASE_SHAPES."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "d_model": D_IN, "d_kv": D_OUT // 2, "num_heads": 2, "d_ff": 8}
    return T5ForConditionalGeneration(T5Config(**sizes, num_layers=2, num_decoder_layers=2))


def hash_of(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def store_as_the_site_does(facts: AdapterFacts, weights: bytes, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(facts.config))
    with (folder / "adapter_model.safetensors").open("wb+") as file:
        rewrite_tensors(io.BytesIO(weights), facts.names, facts.left_out, file)


def test_a_mutated_adapter_is_refused_in_time_or_loads_and_leaves_the_base(base_model, tmp_path):
    codes: Counter[str] = Counter()
    slowest_s = 0.0
    before = hash_of(base_model)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(mutated_adapters())
    def try_one(files: tuple[bytes, bytes]) -> None:
        nonlocal slowest_s
        config, weights = files
        begin = time.process_time()
        try:
            facts = check_adapter(io.BytesIO(config), io.BytesIO(weights), BASE_SHAPES)
        except GateRefusal as refusal:
            codes[refusal.code] += 1
            return
        finally:
            taken_s = time.process_time() - begin
            slowest_s = max(slowest_s, taken_s)
            assert taken_s < SLOWEST_S
        codes["accepted"] += 1
        store_as_the_site_does(facts, weights, tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(base_model, tmp_path)
            adapted.unload()
        assert hash_of(base_model) == before

    try_one()
    assert codes["accepted"] > EXAMPLES / 50
    assert len(codes) > 10
    if TESTS_ARE_LONG:
        found = {"adapters": sum(codes.values()), "slowest_s": round(slowest_s, 3)}
        record_result("mutated_adapters", found | {"answers": dict(codes.most_common())})
