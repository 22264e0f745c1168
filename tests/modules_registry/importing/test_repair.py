"""What is repaired in an old adapter, what is said of it, and what is left alone."""

import pytest

from modules_registry.core.adapter_writing import entries_in_order
from modules_registry.core.repair import repair_adapter

LAYER = "base_model.model.encoder.block.0.layer.0.SelfAttention"
CONFIG = {
    "base_model_name_or_path": "google/flan-t5-large",
    "peft_type": "LORA",
    "task_type": "SEQ_2_SEQ_LM",
    "r": 4,
    "lora_alpha": 32,
    "target_modules": ["q", "v"],
}


def tensors(rank=4, infix="", layers="qv"):
    return entries_in_order(
        (f"{LAYER}.{layer}.lora_{factor}{infix}.weight", "F32", (rank, 8) if factor == "A" else (8, rank))
        for layer in layers
        for factor in "AB"
    )


def changed(**changes):
    return {key: value for key, value in (CONFIG | changes).items() if value != "absent"}


def codes(repaired):
    return [repair.code for repair in repaired.repairs]


def test_a_good_adapter_is_left_as_it_is():
    repaired = repair_adapter(CONFIG, tensors(), task_type="CAUSAL_LM")
    assert (repaired.config, repaired.repairs) == (CONFIG, [])


@pytest.mark.parametrize("given", ["absent", None, 8, "16", [8], {"q": 8}])
def test_the_rank_is_read_from_the_shapes(given):
    repaired = repair_adapter(changed(r=given), tensors(rank=4))
    assert repaired.config["r"] == 4
    assert codes(repaired) == ["rank"]
    assert "Set r to 4, as the weights have it" in repaired.repairs[0].sentence


def test_a_rank_that_differs_between_layers_is_no_repair_s_business():
    mixed = [*tensors(rank=4, layers="q"), *tensors(rank=2, layers="v")]
    assert repair_adapter(changed(r=8), mixed).config["r"] == 8


def test_the_rank_is_read_from_tensors_that_carry_the_adapter_s_name_too():
    repaired = repair_adapter(changed(r=1), tensors(infix=".default"))
    assert (repaired.config["r"], codes(repaired)) == (4, ["rank"])


def test_a_pattern_in_target_modules_is_not_touched():
    assert repair_adapter(changed(target_modules=".*q"), tensors()).config["target_modules"] == ".*q"


@pytest.mark.parametrize("given", ["absent", None])
def test_a_missing_task_type_is_the_base_s(given):
    repaired = repair_adapter(changed(task_type=given), tensors(), task_type="SEQ_2_SEQ_LM")
    assert (repaired.config["task_type"], codes(repaired)) == ("SEQ_2_SEQ_LM", ["task_type"])


def test_neutral_keys_of_2023_go_and_others_stay():
    repaired = repair_adapter(changed(enable_lora=None, merge_weights=False), tensors())
    assert repaired.config == CONFIG
    assert repaired.repairs[0].sentence == "Left out enable_lora and merge_weights, which peft no longer has."
    kept = repair_adapter(changed(enable_lora=[True, False]), tensors())
    assert kept.config["enable_lora"] == [True, False]
