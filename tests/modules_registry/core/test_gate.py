"""What the gate says of an adapter that it accepts, and what it takes to say so."""

import hashlib
import io
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from modules_registry.core.errors import GateRefusal
from modules_registry.core.gate import AdapterLayer, check_adapter
from tests.attacks.adapters import BASE_SHAPES, TARGETED, config, name, plain_tensors, tensor, weights

MEGABYTE = 1e6


def check(config_bytes: bytes, weights_bytes: bytes | None = None, **options):
    return check_adapter(io.BytesIO(config_bytes), io.BytesIO(weights_bytes or weights()), **options)


def test_the_facts_of_an_adapter():
    data = weights()
    facts = check(config(revision="refs/pr/1"), data, base_shapes=BASE_SHAPES)
    assert (facts.base, facts.revision) == ("google/flan-t5-large", "refs/pr/1")
    assert facts.task_type == "SEQ_2_SEQ_LM"
    assert (facts.rank, facts.alpha, facts.scaling) == (2, 4, 2.0)
    assert facts.targets == ("q", "v")
    assert facts.layers == tuple(AdapterLayer(path, 4, 6) for path in sorted(TARGETED))
    assert facts.parameters == 8 * (2 * 6 + 4 * 2)
    assert facts.dtype == "F32"
    assert facts.weights_sha256 == hashlib.sha256(data).hexdigest()
    assert facts.size_bytes == len(data)


def test_a_base_given_beside_the_config_takes_the_place_of_the_one_in_it():
    at_home = config(base_model_name_or_path="/home/me/models/base", revision="my-branch")
    with pytest.raises(GateRefusal, match="Choose the base model below"):
        check(at_home)
    facts = check(at_home, base_shapes=BASE_SHAPES, base="google/flan-t5-large")
    assert (facts.base, facts.revision) == ("google/flan-t5-large", None)
    assert facts.config["base_model_name_or_path"] == "google/flan-t5-large"


@pytest.mark.parametrize("base", ["/etc", "../x", ""])
def test_a_base_given_beside_the_config_is_held_against_the_same_rules(base):
    with pytest.raises(GateRefusal):
        check(config(), base=base)


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank():
    facts = check(config(use_rslora=True))
    assert facts.use_rslora
    assert facts.scaling == pytest.approx(4 / 2**0.5)


def test_the_config_written_anew_keeps_the_adapter_and_nothing_else():
    written = check(
        config(peft_version="0.1", tomorrow=None, lora_dropout=0.5, target_modules=["v", "q", "q"])
    ).config
    assert json.loads(json.dumps(written)) == {
        "base_model_name_or_path": "google/flan-t5-large",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 4,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": 2,
        "revision": None,
        "target_modules": ["q", "v"],
        "task_type": "SEQ_2_SEQ_LM",
        "use_rslora": False,
    }


def test_the_config_written_anew_passes_and_stays_the_same():
    written = check(config()).config
    assert check(json.dumps(written).encode()).config == written


def test_a_layer_outside_the_base_is_only_noticed_when_the_base_is_known():
    more = plain_tensors(paths=[*TARGETED, "encoder.block.9.q"])
    assert len(check(config(), weights(more)).layers) == len(TARGETED) + 1
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(more), base_shapes=BASE_SHAPES)
    assert refusal.value.code == "layer_not_in_base"


def test_the_refusal_names_the_tensor_that_holds_the_value():
    tensors = plain_tensors()
    tensors[name(TARGETED[3], "B")] = tensor(4, 2, fill=float("nan"))
    with pytest.raises(GateRefusal, match=r"decoder|encoder") as refusal:
        check(config(), weights(tensors))
    assert refusal.value.message.startswith(name(TARGETED[3], "B"))


def test_a_value_that_is_wrong_in_a_later_piece_is_found(tmp_path: Path):
    large = {
        name(TARGETED[0], "A"): np.zeros((2, 400_000), "f4"),
        name(TARGETED[0], "B"): np.zeros((4, 2), "f4"),
    }
    large[name(TARGETED[0], "A")][1, 399_999] = np.inf
    save_file(large, tmp_path / "w")
    with pytest.raises(GateRefusal) as refusal:
        check_adapter(io.BytesIO(config(target_modules=["q"])), tmp_path / "w")
    assert refusal.value.code == "not_finite"
    assert ".lora_A." in refusal.value.message


def test_a_hundred_megabytes_pass_in_a_second_and_in_little_memory(tmp_path: Path):
    factor = np.full((16, 4096), 0.5, "f4")
    paths = [f"layers.{number}.q" for number in range(190)]
    save_file(
        {name(path, "A"): factor for path in paths} | {name(path, "B"): factor.T.copy() for path in paths},
        tmp_path / "w",
    )
    assert (tmp_path / "w").stat().st_size > 99 * MEGABYTE
    tracemalloc.start()
    begin = time.perf_counter()
    check_adapter(io.BytesIO(config(r=16, target_modules=["q"])), tmp_path / "w")
    seconds = time.perf_counter() - begin
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 12 * MEGABYTE
    assert seconds < 3  # 0.1 on a quiet machine
