"""What the gate says of an adapter that it accepts, and what it takes to say so."""

import hashlib
import io
import json
import re
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from modules_registry.core.adapter_config import find_in_pattern
from modules_registry.core.adapter_file import read_header
from modules_registry.core.adapter_writing import rewrite_tensors
from modules_registry.core.base_weights import BaseWeights, weights_in
from modules_registry.core.errors import Findings, GateRefusal
from modules_registry.core.gate import AdapterLayer, check_adapter, check_header
from modules_registry.core.gate.__main__ import main
from modules_registry.core.refusal_table import REFUSALS, TABLES
from tests.attacks.adapters import (
    BASE_SHAPES,
    DROPPED,
    TARGETED,
    config,
    name,
    plain_tensors,
    tensor,
    weights,
)
from tests.attacks.gate_cases import HOSTILE

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
    assert facts.layers == tuple(AdapterLayer(path, 4, 6, 2, 2.0) for path in sorted(TARGETED))
    assert facts.parameters == 8 * (2 * 6 + 4 * 2)
    assert facts.dtype == "F32"
    assert facts.weights_sha256 == hashlib.sha256(data).hexdigest()
    assert facts.size_bytes == len(data)


def test_a_base_given_beside_the_config_takes_the_place_of_the_one_in_it():
    at_home = config(base_model_name_or_path="/home/me/models/base", revision="my-branch")
    with pytest.raises(GateRefusal, match="names nothing on the Hub"):
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


@pytest.mark.parametrize(
    ("key", "value", "method"),
    [
        ("corda_config", {"cov_method": "ipm"}, "corda"),
        ("lora_ga_config", {"direction": "ArB2r"}, "lora_ga"),
        ("loftq_config", {"loftq_bits": 4}, "loftq"),
    ],
)
def test_settings_of_a_conversion_s_first_method_count_only_where_the_method_is_named(key, value, method):
    assert check(config(**{key: value})).config == check(config()).config
    with pytest.raises(GateRefusal) as refusal:
        check(config(**{key: value, "init_lora_weights": method}))
    assert refusal.value.codes == ("init_not_supported",)


def test_a_layer_outside_the_base_is_only_noticed_when_the_base_is_known():
    more = plain_tensors(paths=[*TARGETED, "encoder.block.9.q"])
    assert len(check(config(), weights(more)).layers) == len(TARGETED) + 1
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(more), base_shapes=BASE_SHAPES)
    assert refusal.value.code == "layer_not_in_base"


@pytest.mark.parametrize(
    "of_mixture",
    [
        ["model.layers.0.block_sparse_moe.experts.0.w1", "model.layers.0.block_sparse_moe.gate"],
        ["model.layers.0.mlp.gate"],
        ["model.layers.0.block_sparse_moe.router"],
    ],
)
def test_an_adapter_of_experts_or_their_router_is_told_which_layers_to_name(of_mixture):
    tensors = plain_tensors(paths=[*TARGETED, *of_mixture])
    with pytest.raises(GateRefusal, match=r'target_modules=\["q_proj", "k_proj"') as refusal:
        check(config(), weights(tensors), base_shapes=BASE_SHAPES)
    assert refusal.value.codes == ("moe_experts",)
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(tensors | plain_tensors(paths=["a.q"])), base_shapes=BASE_SHAPES)
    assert refusal.value.codes == ("moe_experts", "layer_not_in_base")


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"r": 3}, ["rank_mismatch"]),
        ({"r": 3, "rank_pattern": {TARGETED[0]: 2}}, ["rank_mismatch"]),
        ({"rank_pattern": {"v": 5}}, ["rank_mismatch"]),
    ],
)
def test_one_cause_in_many_layers_is_said_once_with_their_number(change, codes):
    wrong = [
        path
        for path in TARGETED
        if find_in_pattern(change.get("rank_pattern", {}), path, change.get("r", 2)) != 2
    ]
    assert len(wrong) > 1
    with pytest.raises(GateRefusal) as refusal:
        check(config(**change))
    assert [part.code for part in refusal.value.parts] == codes
    assert refusal.value.message.startswith(f"Layer {min(wrong)} has A [2, 6]")
    assert refusal.value.message.endswith(f"Such layers in all: {len(wrong)}.")


def test_each_cause_in_the_layers_is_said_though_they_alternate():
    tensors = plain_tensors() | {name(path, "A"): tensor(6) for path in TARGETED[::2]}
    with pytest.raises(GateRefusal) as refusal:
        check(config(r=3), weights(tensors))
    assert sorted(part.code for part in refusal.value.parts) == ["not_a_matrix", "rank_mismatch"]
    assert refusal.value.message.count(f"Such layers in all: {len(TARGETED) // 2}.") == 2


def test_a_factor_or_a_shape_that_many_layers_lack_is_said_with_their_number():
    only_a = {key: value for key, value in plain_tensors().items() if ".lora_A." in key}
    with pytest.raises(GateRefusal, match=rf"such layers in all: {len(TARGETED)}\) lacks its lora_B"):
        check(config(), weights(only_a))
    wider = dict.fromkeys(BASE_SHAPES, (4, 7))
    with pytest.raises(GateRefusal, match=rf"such layers in all: {len(TARGETED)}\) is 4 x 6 here, but 4 x 7"):
        check(config(), base_shapes=wider)


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


# --- the weights say which layers are adapted ----------------------------------


@pytest.mark.parametrize(
    "targets",
    [None, "all-linear", r".*\.(q|v)", "(a+)+$", ["q"], ["encoder.block.0.layer.0.SelfAttention.q"]],
)
def test_the_list_of_layers_is_written_after_the_weights(targets):
    facts = check(config(target_modules=targets), base_shapes=BASE_SHAPES)
    assert facts.targets == ("q", "v")
    assert facts.config["target_modules"] == ["q", "v"]
    assert [repair.code for repair in facts.repairs] == ["target_modules"]
    assert "q, v" in facts.repairs[0].sentence


def test_names_that_the_base_has_no_layer_for_are_left_out_and_said():
    """peft trains those that it finds: seven usual names on a base that has five of them."""
    facts = check(config(target_modules=["q", "v", "wi_0", "gate_proj"]), base_shapes=BASE_SHAPES)
    assert facts.targets == ("q", "v")
    assert [repair.sentence for repair in facts.repairs] == [
        "Left gate_proj, wi_0 out of target_modules: the file has no weights for them."
    ]


@pytest.mark.parametrize(
    "choice",
    [
        {"layers_to_transform": [0]},
        {"layers_to_transform": 0, "layers_pattern": "block"},
        {"exclude_modules": ["block.1"]},
        {"exclude_modules": r".*block\.1.*"},
        {"target_modules": r".*block\.0.*\.[qv]"},
    ],
)
@pytest.mark.parametrize("shapes", [None, BASE_SHAPES])
def test_layers_that_were_chosen_are_named_one_by_one(choice, shapes):
    chosen = [path for path in TARGETED if ".block.0." in path]
    facts = check(config(**choice), weights(plain_tensors(paths=chosen)), base_shapes=shapes)
    assert facts.targets == tuple(sorted(chosen))
    again = check(
        json.dumps(facts.config).encode(), weights(plain_tensors(paths=chosen)), base_shapes=BASE_SHAPES
    )
    assert (again.targets, again.repairs) == (facts.targets, ())


# --- ranks and alphas of single layers, DoRA ----------------------------------

FIRST = TARGETED[0]
WIDER = plain_tensors() | {name(FIRST, "A"): tensor(5, 6), name(FIRST, "B"): tensor(4, 5)}


@pytest.mark.parametrize(
    "key", [FIRST, f"^{FIRST}", "encoder.block.0.layer.0.SelfAttention.q", r"enc.*\.0.*\.q"]
)
def test_a_layer_may_have_a_rank_of_its_own(key):
    facts = check(config(rank_pattern={key: 5}), weights(WIDER))
    first = next(layer for layer in facts.layers if layer.path == FIRST)
    assert (first.rank, first.scaling) == (5, 4 / 5)
    assert facts.has_own_ranks
    assert facts.not_composable == ""
    assert facts.parameters == 8 * (2 * 6 + 4 * 2) + 3 * (6 + 4)
    again = check(json.dumps(facts.config).encode(), weights(WIDER))
    assert again.layers == facts.layers


def test_the_first_key_that_names_a_layer_counts_as_in_peft():
    facts = check(config(alpha_pattern={"block.0.layer.0.SelfAttention.q": 8, "q": 1, "SelfAttention.v": 2}))
    scalings = {layer.path: layer.scaling for layer in facts.layers}
    assert scalings["encoder.block.0.layer.0.SelfAttention.q"] == 8 / 2
    assert scalings["encoder.block.1.layer.0.SelfAttention.q"] == 1 / 2
    assert scalings["decoder.block.1.layer.0.SelfAttention.v"] == 2 / 2


@pytest.mark.parametrize("suffix", ["", ".weight", ".default.weight"])
@pytest.mark.parametrize("said", [{"use_dora": True}, {}])
def test_a_dora_is_accepted_for_sharing_and_says_why_it_cannot_be_composed(suffix, said):
    if suffix == ".default.weight":
        tensors = {key.replace(".weight", ".default.weight"): value for key, value in plain_tensors().items()}
    else:
        tensors = plain_tensors()
    tensors |= {f"base_model.model.{path}.lora_magnitude_vector{suffix}": tensor(4) for path in TARGETED}
    facts = check(config(**said), weights(tensors), base_shapes=BASE_SHAPES)
    assert facts.not_composable.startswith("It is a DoRA")
    assert facts.config["use_dora"] is True
    assert facts.parameters == len(TARGETED) * (2 * 6 + 4 * 2 + 4)
    assert [repair.code for repair in facts.repairs if repair.code == "use_dora"] == (
        [] if said else ["use_dora"]
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_a_config_is_written(encoding):
    assert check(config().decode().encode(encoding)).rank == 2


# --- types in other letters ---------------------------------------------------


@pytest.mark.parametrize(
    ("key", "given", "wanted"),
    [
        ("peft_type", "lora", "LORA"),
        ("peft_type", "PeftType.LORA", "LORA"),
        ("peft_type", DROPPED, "LORA"),
        ("task_type", "seq_2_seq_lm", "SEQ_2_SEQ_LM"),
        ("task_type", "TaskType.SEQ_2_SEQ_LM", "SEQ_2_SEQ_LM"),
        ("task_type", " Causal_LM", "CAUSAL_LM"),
    ],
)
def test_a_type_in_other_letters_is_written_as_peft_does_and_said(key, given, wanted):
    facts = check(config(**{key: given}))
    assert facts.config[key] == wanted
    assert [(repair.code, wanted in repair.sentence) for repair in facts.repairs] == [(key, True)]


# --- names that wrappers wrote ------------------------------------------------


def inside(key, wrapper):
    return key.replace("base_model.model.", f"base_model.model.{wrapper}.")


def in_memory(name):
    return lambda key: key.replace(".weight", f".{name}.weight")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda key: f"module.{key}", "module_names"),
        (lambda key: f"_orig_mod.module.{key}", "wrapper_names"),
        (lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."), "wrapper_names"),
        (lambda key: key.replace(".layer.", "._fsdp_wrapped_module.layer."), "wrapper_names"),
        (lambda key: key.replace("base_model.model.", "base_model.model.module."), "module_names"),
        (lambda key: key.replace("base_model.model.", "base_model.module.model."), "module_names"),
        (lambda key: key.replace("base_model.model.", "base_model.model.module.module."), "module_names"),
        (lambda key: key.replace(".block.", ".module.block."), "module_names"),
        (lambda key: re.sub(r"(block\.\d+)\.", r"\1.module.", key), "module_names"),
        (lambda key: f"base_model.model.{inside(key, 'module')}", "module_names"),
        (lambda key: inside(key, "module._orig_mod"), "module_names"),
        (lambda key: inside(key, "_orig_mod.module"), "wrapper_names"),
        (lambda key: f"module._orig_mod.{inside(key, 'module._orig_mod.module')}", "wrapper_names"),
        (lambda key: inside(key, "_forward_module.module"), "wrapper_names"),
        (lambda key: inside(key, "_module").replace(".weight", ".default.weight"), "wrapper_names"),
        (lambda key: f"base_model.model.{key}", "doubled_prefix"),
        (lambda key: key.removeprefix("base_model.model."), "prefix"),
        (lambda key: key.removeprefix("base_model.model.").replace(".weight", ".default.weight"), "prefix"),
        (lambda key: f"_forward_module.{key}", "wrapper_names"),
        (lambda key: f"lightning_model.{key}", "holder_names"),
        (lambda key: f"pretrained_model.{key}", "holder_names"),
        (lambda key: f"module.policy.model.{key}", "holder_names"),
        (lambda key: key.replace(".weight", ".default.weight"), "adapter_name"),
        (lambda key: key.replace(".weight", ".style.weight"), "adapter_name"),
    ],
)
@pytest.mark.parametrize("base_shapes", [None, BASE_SHAPES], ids=["unknown base", "known base"])
def test_names_with_one_reading_are_repaired_and_said(change, code, base_shapes):
    wrapped = {change(key): value for key, value in plain_tensors().items()}
    facts = check(config(), weights(wrapped), base_shapes=base_shapes)
    assert len(facts.layers) == len(TARGETED)
    assert {facts.names[key] for key in wrapped} == set(plain_tensors())
    assert code in [repair.code for repair in facts.repairs]


OF_LLAMA = [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]


def llama(before, task_type="CAUSAL_LM", targets=("q_proj",)):
    tensors = {
        f"{before}{path}.lora_{factor}.weight": tensor(*shape)
        for path in OF_LLAMA
        for factor, shape in (("A", (2, 6)), ("B", (4, 2)))
    }
    return config(task_type=task_type, target_modules=targets), weights(tensors)


@pytest.mark.parametrize("known", [True, False])
def test_a_decoder_s_own_part_model_stays_where_the_prefix_is_missing(known):
    shapes = dict.fromkeys(OF_LLAMA, (4, 6)) if known else None
    facts = check(*llama(""), base_shapes=shapes)
    assert [layer.path for layer in facts.layers] == OF_LLAMA
    assert [repair.code for repair in facts.repairs] == ["prefix"]


def test_the_base_says_which_part_of_the_prefix_is_missing():
    without_model = {path.removeprefix("model."): (4, 6) for path in OF_LLAMA}
    facts = check(*llama(""), base_shapes=without_model)
    assert [layer.path for layer in facts.layers] == list(without_model)
    (repair,) = facts.repairs
    assert "“base_model.”" in repair.sentence


@pytest.mark.parametrize(
    ("adapter", "shapes"),
    [
        (llama("", task_type=None), None),  # with or without “model.”: nobody knows
        (llama("", targets=("v_proj",)), None),  # other layers than the config says
        (llama("", targets=".*q_proj"), None),  # a pattern says nothing
        (llama(""), {"model.layers.0.self_attn.q_proj": (4, 6)}),  # not all are the base's
        (llama(""), dict.fromkeys((*OF_LLAMA, *(p.removeprefix("model.") for p in OF_LLAMA)), (4, 6))),
    ],
)
def test_a_missing_prefix_with_two_readings_or_none_is_refused_with_the_command(adapter, shapes):
    with pytest.raises(GateRefusal, match="python -c") as refusal:
        check(*adapter, base_shapes=shapes)
    assert refusal.value.codes == ("prefix_missing",)


@pytest.mark.parametrize(("before", "code"), [("lora_unet_", "kohya_format"), ("unet.", "diffusers_format")])
def test_names_of_another_program_are_not_taken_for_peft_s_without_a_prefix(before, code):
    with pytest.raises(GateRefusal) as refusal:
        check(*llama(before))
    assert code in refusal.value.codes


def test_names_of_another_program_beside_plain_ones_get_no_prefix_either():
    adapter = config(), weights({"q.lora_A.weight": tensor(2, 6), "unet.q.lora_B.weight": tensor(4, 2)})
    with pytest.raises(GateRefusal) as refusal:
        check(*adapter)
    assert "diffusers_format" in refusal.value.codes


def test_a_part_module_with_another_reading_stays():
    """A model may have a child of that name beside others, and a layer may be called so."""
    paths = ["a.module.q", "a.other.q", "b.module"]
    facts = check(config(target_modules=["q", "module"]), weights(plain_tensors(paths=paths)))
    assert [layer.path for layer in facts.layers] == paths
    assert facts.names == {}


def test_copies_and_other_tensors_beside_an_adapter_with_a_name_hide_no_cause():
    """As torch.save of a whole model's state writes them."""
    named = {key.replace(".weight", ".default.weight"): value for key, value in plain_tensors().items()}
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(named | {"base_model.model.lm_head.modules_to_save.weight": tensor(4, 6)}))
    assert refusal.value.codes == ("modules_saved",)


def test_the_state_of_a_whole_model_is_told_as_that_alone():
    """As torch.save(model.state_dict()) keeps it: the base's weights, norms and biases beside the LoRA."""
    named = {key.replace(".weight", ".default.weight"): value for key, value in plain_tensors().items()}
    own = {
        f"base_model.model.{path}.base_layer.{kind}": tensor(4, 6)
        for path in TARGETED
        for kind in ("weight", "bias")
    }
    others = ("shared.weight", "encoder.final_layer_norm.weight", "decoder.norm.bias", "lm_head.weight")
    own |= {f"base_model.model.{key}": tensor(4, 6) for key in others}
    with pytest.raises(GateRefusal, match="state of the whole model") as refusal:
        check(config(), weights(named | own))
    assert refusal.value.codes == ("whole_state",)
    assert f"({len(own)} in all)" in refusal.value.message
    head = {"base_model.model.lm_head.modules_to_save.weight": tensor(4, 6)}
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(named | own | head))
    assert set(refusal.value.codes) == {"whole_state", "modules_saved"}


def several(*changes):
    return {change(key): value for change in changes for key, value in plain_tensors().items()}


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        (several(in_memory("default"), in_memory("other")), ["default", "other"]),
        (several(in_memory("a"), in_memory("b"), in_memory("c")), ["a", "b", "c"]),
        (several(str, in_memory("other")), ["", "other"]),
        (several(lambda key: f"policy.{key}", lambda key: f"ref.{key}"), ["policy", "ref"]),
        (several(str, lambda key: f"ref_model.{key}"), ["", "ref_model"]),
        (several(*[lambda key, w=w: f"{inside(in_memory(w)(key), 'module')}" for w in "ab"]), ["a", "b"]),
    ],
)
def test_several_adapters_in_one_file_are_refused_by_their_names_with_the_way_out(tensors, names):
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(tensors))
    assert refusal.value.codes == ("several_adapters",)
    assert f"It holds {len(names)} adapters" in refusal.value.message
    assert all(f'"{name}"' in refusal.value.message for name in names)
    assert 'selected_adapters=["name"]' in refusal.value.message


# --- all findings at once, and on the author's machine ------------------------


def test_all_findings_of_a_config_are_said_at_once():
    with pytest.raises(GateRefusal) as refusal:
        check(config(r=0, bias="all", modules_to_save=["lm_head"], base_model_name_or_path="/home/me"))
    assert set(refusal.value.codes) == {
        "rank_out_of_range",
        "bias_not_supported",
        "modules_to_save_not_supported",
        "base_not_a_name",
    }


def test_all_kinds_of_strange_tensors_are_said_at_once():
    strange = ("base_model.model.lm_head.weight", "base_model.model.q.bias", "base_model.model.score.weight")
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(plain_tensors() | {key: tensor(2, 6) for key in strange}))
    assert set(refusal.value.codes) == {"embeddings_saved", "trained_biases", "classifier_head"}


def test_tensors_that_were_not_gathered_are_all_that_is_said_of_them():
    """Their layers lack factors and shapes for that reason alone."""
    empty = {key: tensor(0) for key in plain_tensors()}
    del empty[name(TARGETED[1], "B")]
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(empty))
    assert refusal.value.codes == ("not_gathered",)


def test_a_file_of_strange_tensors_alone_is_not_called_empty():
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights({"model.layers.0.q.weight": tensor(4, 6)}))
    assert refusal.value.codes == ("full_model",)


def test_all_findings_of_config_header_and_values_are_said_at_once():
    tensors = plain_tensors() | {"base_model.model.q.bias": tensor(2, 6)}
    tensors[name(FIRST, "A")] = tensor(3, 6)
    tensors[name(TARGETED[1], "B")] = tensor(4, 2, fill=float("nan"))
    with pytest.raises(GateRefusal) as refusal:
        check(config(), weights(tensors))
    assert set(refusal.value.codes) == {"trained_biases", "rank_mismatch", "not_finite"}
    with pytest.raises(GateRefusal) as refusal:
        check(config(r=0), weights(tensors))
    assert set(refusal.value.codes) == {"rank_out_of_range", "trained_biases", "not_finite"}
    assert [part.file for part in refusal.value.parts] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.safetensors",
    ]


@pytest.fixture
def adapter(tmp_path: Path):
    """The folder of a plain adapter."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(config(target_modules="all-linear"))
    (folder / "adapter_model.safetensors").write_bytes(weights())
    return folder


@pytest.fixture
def base_folder(tmp_path: Path):
    """The folder of a base that has the first two of the adapter's layers."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5"}')
    save_file({f"{path}.weight": np.zeros((4, 6), "f4") for path in TARGETED[:2]}, folder / "m.safetensors")
    return folder


@pytest.fixture
def said_of(capsys):
    """Run the command; its exit status and what it prints."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, json.loads(capsys.readouterr().out)

    return run


def findings_of(said):
    return [(finding["file"].rpartition("/")[2], finding["code"]) for finding in said["findings"]]


def test_the_command_prints_one_object_and_exits_with_0_or_1(adapter, base_folder, said_of):
    (adapter / "training_args.bin").write_text("x")
    status, said = said_of(adapter)
    assert (status, said["accepted"], said["rank"], len(said["repairs"])) == (0, True, 2, 1)
    assert said["left_out"] == ["training_args.bin"]
    status, said = said_of(adapter, "--base", base_folder)
    assert (status, said["accepted"], said["codes"]) == (1, False, ["layer_not_in_base"])


def test_the_command_says_that_a_folder_is_not_there(tmp_path, said_of):
    status, said = said_of(tmp_path / "adpater")
    assert (status, said["codes"]) == (1, ["folder_missing"])
    assert f"There is no folder {tmp_path / 'adpater'}." in said["findings"][0]["message"]


@pytest.mark.parametrize(
    ("present", "codes"),
    [
        (["adapter_config.json"], ["file_missing"]),
        (["adapter_model.safetensors"], ["file_missing"]),
        ([], ["file_missing", "file_missing"]),
        (["adapter_config.json", "adapter_model.bin"], ["pickle"]),
        (["adapter_model.bin"], ["pickle", "file_missing"]),
        (["adapter_config.json", "checkpoint-2/adapter_model.safetensors"], ["weights_elsewhere"]),
        (["model.safetensors", "config.json"], ["other_format", "file_missing"]),
        (["adapter_config.json", "latest", "global_step9/mp_rank_00_model_states.pt"], ["other_format"]),
        (["adapter_config.json", "pytorch_model_fsdp_0/__0_0.distcp"], ["other_format"]),
        (["adapter_config.json", "adapter_model-00001-of-00002.safetensors"], ["split_weights"]),
    ],
)
def test_the_command_says_what_a_folder_lacks(adapter, tmp_path, said_of, present, codes):
    folder = tmp_path / "half"
    for path in present:
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        same = adapter / path
        (folder / path).write_bytes(same.read_bytes() if same.exists() else b"x")
    folder.mkdir(exist_ok=True)
    status, said = said_of(folder)
    assert (status, [finding["code"] for finding in said["findings"]]) == (1, codes)
    assert not any("cannot be opened" in finding["message"] for finding in said["findings"])


@pytest.mark.parametrize(
    ("names", "metadata"),
    [
        (["lora_unet_down.lora_down.weight"], {}),
        (["lora_te1_text_model.alpha"], {}),
        (["blocks.0.lora_up.weight"], {}),
        (["x"], {"ss_network_dim": "16"}),
    ],
)
def test_the_command_knows_kohya_s_file_under_its_own_name(tmp_path, said_of, names, metadata):
    save_file({each: np.zeros((2, 2), "f4") for each in names}, tmp_path / "my_lora.safetensors", metadata)
    said = said_of(tmp_path)[1]
    assert said["codes"] == ["kohya_format", "file_missing"]
    assert said["findings"][0]["message"].startswith("my_lora.safetensors is in kohya's format")


def test_the_command_says_all_that_is_wrong_with_config_weights_and_base(adapter, base_folder, said_of):
    (adapter / "adapter_config.json").write_bytes(config(bias="all"))
    broken = {name(FIRST, "A"): tensor(2, 6)}
    (adapter / "adapter_model.safetensors").write_bytes(weights(broken))
    (base_folder / "config.json").write_text("{}")
    status, said = said_of(adapter, "--base", base_folder)
    assert status == 1
    assert findings_of(said) == [
        ("config.json", "model_type_missing"),
        ("adapter_config.json", "bias_not_supported"),
        ("adapter_model.safetensors", "factor_missing"),
    ]
    (adapter / "adapter_config.json").unlink()
    _, said = said_of(adapter, "--base", base_folder)
    assert said["codes"] == ["model_type_missing", "file_missing", "factor_missing"]


@pytest.mark.parametrize("lacking", ["config.json", "m.safetensors", "everything"])
def test_the_command_says_that_the_base_is_no_model_s_folder(adapter, base_folder, said_of, lacking):
    for path in list(base_folder.iterdir()) if lacking == "everything" else [base_folder / lacking]:
        path.unlink()
    if lacking == "everything":
        base_folder.rmdir()
    status, said = said_of(adapter, "--base", base_folder)
    assert (status, said["codes"]) == (1, ["base_incomplete"])
    assert str(base_folder) in said["findings"][0]["message"]


@pytest.mark.parametrize(
    ("quantization", "codes"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, ["base_quantized"]),
        ({"quant_method": "gptq", "bits": 4}, ["base_quantized"]),
        ({"quant_method": "awq"}, ["base_quantized"]),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ["layer_not_in_base"]),
        ({"quant_method": "fp8"}, ["layer_not_in_base"]),
        (None, ["layer_not_in_base"]),
    ],
    ids=str,
)
def test_a_base_whose_weights_are_packed_is_told_so(adapter, base_folder, said_of, quantization, codes):
    """Its layers no longer have their shapes; those of the adapter would all seem wrong."""
    config = {"model_type": "t5", "quantization_config": quantization}
    (base_folder / "config.json").write_text(json.dumps(config))
    _, said = said_of(adapter, "--base", base_folder)
    assert said["codes"] == codes


# --- copies of the base's own weights -----------------------------------------


def base_weights(folder: Path, dtype: str = "F32", **changes) -> BaseWeights:
    """Those of a base with a tied head, of one layer, with numbers that are no multiples of each other."""
    own = {"model.embed_tokens.weight": EMBEDDING, "model.layers.0.q.weight": EMBEDDING[:4]}
    tensors = {key: (dtype, value.shape, stored(value, dtype)) for key, value in (own | changes).items()}
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": true}')
    (folder / "model.safetensors").write_bytes(weights(tensors))
    return weights_in(folder)


EMBEDDING = np.random.default_rng(0).normal(size=(32, 6)).astype("f4")


def stored(values, dtype):
    return torch.from_numpy(values).to(TORCH_TYPES[dtype]).view(torch.uint8).numpy().tobytes()


def adapter_with(name_of_copy: str, values, dtype: str = "F32") -> bytes:
    lora = plain_tensors(paths=["model.layers.0.q"])
    return weights(lora | {name_of_copy: (dtype, values.shape, stored(values, dtype))})


TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
OF_BASE = config(target_modules=["q"])


@pytest.mark.parametrize(
    "copy",
    ["lm_head.base_layer.weight", "model.embed_tokens.weight", "model.embed_tokens.base_layer.weight"],
)
@pytest.mark.parametrize("dtype", TORCH_TYPES)
@pytest.mark.parametrize("own_dtype", TORCH_TYPES)
def test_a_copy_of_the_base_s_own_weights_is_left_out_and_said(tmp_path, copy, dtype, own_dtype):
    own = base_weights(tmp_path, own_dtype)
    values = torch.from_numpy(EMBEDDING).to(TORCH_TYPES[own_dtype]).float().numpy()
    data = adapter_with(f"base_model.model.{copy}", values, dtype)
    facts = check(OF_BASE, data, base_weights=own)
    assert facts.left_out == {f"base_model.model.{copy}"}
    assert [repair.code for repair in facts.repairs] == ["base_weights"]
    assert copy in facts.repairs[0].sentence
    rewritten = io.BytesIO()
    rewrite_tensors(io.BytesIO(data), facts.names, facts.left_out, rewritten)
    assert check(OF_BASE, rewritten.getvalue()).layers == facts.layers


@pytest.mark.parametrize("change", ["one number", "another shape", "unknown base", "no such parameter"])
def test_what_is_no_copy_of_the_base_s_own_stays_refused_with_its_way_out(tmp_path, change):
    values = EMBEDDING.copy()
    if change == "one number":
        values[-1, -1] += 0.5
    if change == "another shape":
        values = np.vstack([values, values[:1]])
    copy = "other.base_layer.weight" if change == "no such parameter" else "lm_head.base_layer.weight"
    own = None if change == "unknown base" else base_weights(tmp_path)
    with pytest.raises(GateRefusal, match="save_embedding_layers=False") as refusal:
        check(OF_BASE, adapter_with(f"base_model.model.{copy}", values), base_weights=own)
    assert refusal.value.code == "base_weights_inside"


@pytest.mark.parametrize(
    ("copy", "values", "codes"),
    [
        ("base_model.model.lm_head.base_layer.weight", EMBEDDING, []),
        ("module.base_model.model.model.embed_tokens.weight", EMBEDDING, []),
        ("base_model.model.model.layers.0.q.weight", EMBEDDING[:4], ["tensor_not_lora"]),
        ("model.embed_tokens.weight", EMBEDDING, ["full_model"]),
    ],
)
def test_the_header_alone_is_answered_like_the_whole_file(tmp_path, copy, values, codes):
    """Which names are those of copies is one rule, also where the base's values are not read yet."""
    data, early, late = adapter_with(copy, values), Findings(), Findings()
    with early.collect():
        check_header(read_header(io.BytesIO(data)))
    with late.collect():
        check(OF_BASE, data, base_weights=base_weights(tmp_path))
    assert [refusal.code for refusal in early.found] == codes
    assert [refusal.code for refusal in late.found] == codes


def test_every_code_of_the_table_is_named_by_a_test():
    tests = Path(__file__).parents[2]
    written = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("*.py"))
    assert [code for code in REFUSALS if f'"{code}"' not in written] == []


def test_every_refusal_of_the_gate_has_a_case_and_stands_in_the_table():
    """The checkpoint's and the card's codes have their tests beside them; folders' in tests/…/hub_api."""
    said = {case.code for case in HOSTILE} - {""}
    rows = set(TABLES["adapter_config.json"]) | set(TABLES["adapter_model.safetensors"])
    assert said <= rows
    assert rows - said == {"not_a_file"}  # test_only_a_regular_file_is_opened
    assert all(row.cause.endswith(".") and row.remedy.endswith(".") for row in REFUSALS.values())
