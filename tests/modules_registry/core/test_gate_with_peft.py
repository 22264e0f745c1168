"""What peft saves today passes the gate, and means the same to both."""

import json
from pathlib import Path
from typing import Any

import pytest

from modules_registry.core.adapter_config import read_config
from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.base_weights import read_base
from modules_registry.core.cards import check_card
from modules_registry.core.errors import GateRefusal
from modules_registry.core.gate import AdapterFacts, check_adapter

pytestmark = pytest.mark.slow  # importing peft takes ten seconds

PLAIN_OPTIONS: list[dict[str, Any]] = [
    {},
    {"r": 1, "lora_alpha": 1},
    {"r": 64, "lora_alpha": 16, "lora_dropout": 0.5},
    {"use_rslora": True, "r": 4},
    {"task_type": None},
    {"task_type": "CAUSAL_LM"},
    {"task_type": "SEQ_2_SEQ_LM"},
    {"inference_mode": True},
    {"init_lora_weights": False},
    {"init_lora_weights": "gaussian"},
    {"fan_in_fan_out": True},
    {"revision": "main"},
    {"target_modules": ["q"]},
    {"target_modules": {"SelfAttention.q", "EncDecAttention.v"}},
    {"ensure_weight_tying": True},
]
OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "bias_not_supported": {"bias": "all"},
    "modules_to_save_not_supported": {"modules_to_save": ["lm_head"]},
    "init_not_supported": {"init_lora_weights": "pissa"},
    "classifier_head": {"task_type": "SEQ_CLS"},
    "variant_not_supported": {"alora_invocation_tokens": [1], "task_type": "CAUSAL_LM"},
}


def in_order(options: dict[str, Any]) -> str:
    """Name a test: the same in every process, which may order a set differently."""
    return str({key: sorted(value) if isinstance(value, set) else value for key, value in options.items()})


def lora_config(**options: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"base_model_name_or_path": "some/base", "target_modules": ["q", "v"]} | options)


def tiny_t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 3, "num_layers": 2, "vocab_size": 40}
    return T5ForConditionalGeneration(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def tiny_gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=8))


def tiny_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))


MODELS = {"t5": tiny_t5, "gpt2": tiny_gpt2, "llama": tiny_llama}
ADAPTERS: list[tuple[str, dict[str, Any]]] = [
    ("t5", {"task_type": "SEQ_2_SEQ_LM"}),
    ("t5", {"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]}),
    ("t5", {"target_modules": ["EncDecAttention.q"], "use_rslora": True, "r": 4, "lora_alpha": 6}),
    ("t5", {"target_modules": "all-linear"}),
    ("gpt2", {"task_type": "CAUSAL_LM", "target_modules": None, "fan_in_fan_out": True}),
    ("gpt2", {"task_type": "CAUSAL_LM", "target_modules": ["c_attn", "mlp.c_proj", "c_fc"]}),
    ("gpt2", {"target_modules": "all-linear"}),
    ("llama", {"task_type": "CAUSAL_LM", "target_modules": None}),
    ("llama", {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "init_lora_weights": "gaussian"}),
    ("llama", {"target_modules": ["k_proj", "down_proj"], "r": 3}),
]


@pytest.mark.parametrize("options", PLAIN_OPTIONS, ids=in_order)
def test_the_config_of_a_plain_lora_passes(tmp_path, options):
    config = lora_config(**options)
    config.save_pretrained(tmp_path)
    accepted = read_config(tmp_path / "adapter_config.json")
    assert (accepted.rank, accepted.alpha) == (config.r, config.lora_alpha)
    assert set(accepted.targets) == config.target_modules


@pytest.mark.parametrize("options", PLAIN_OPTIONS, ids=in_order)
def test_peft_reads_the_config_written_anew_as_the_same_adapter(tmp_path, options):
    from peft import LoraConfig

    config = lora_config(**options)
    config.save_pretrained(tmp_path)
    plain = read_config(tmp_path / "adapter_config.json").plain
    (tmp_path / "adapter_config.json").write_text(json.dumps(plain))
    again = LoraConfig.from_pretrained(str(tmp_path))
    for key in ("r", "lora_alpha", "target_modules", "use_rslora", "fan_in_fan_out", "task_type", "bias"):
        assert getattr(again, key) == getattr(config, key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("code", "options"), OTHER_OPTIONS.items())
def test_the_config_of_another_kind_of_lora_is_refused_by_its_name(tmp_path, code, options):
    lora_config(**options).save_pretrained(tmp_path)
    with pytest.raises(GateRefusal) as refusal:
        read_config(tmp_path / "adapter_config.json")
    assert refusal.value.code == code


def test_what_the_weights_settle_is_left_to_them(tmp_path):
    """DoRA is shared, and which layers a pattern means and with which ranks is read from the tensors."""
    lora_config(use_dora=True, target_modules=".*q", rank_pattern={"q": 4}).save_pretrained(tmp_path)
    accepted = read_config(tmp_path / "adapter_config.json")
    assert accepted.use_dora
    assert not accepted.names_all_layers
    assert accepted.rank_of("encoder.q") == 4


def saved_adapter(kind: str, options: dict[str, Any], folder: Path, dtype: str = "float32") -> Any:
    """A base and an adapter as their trainer would save them; B is no longer zero."""
    import torch
    from peft import get_peft_model

    base = MODELS[kind]().to(getattr(torch, dtype))
    base.save_pretrained(folder / "base")
    model = get_peft_model(base, lora_config(**options), autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    model.peft_config["default"].base_model_name_or_path = f"tiny/{kind}"
    model.save_pretrained(folder, save_embedding_layers=False)
    return model


def checked(folder: Path) -> AdapterFacts:
    shapes = base_shapes_of(folder / "base/config.json", [folder / "base/model.safetensors"])
    return check_adapter(folder / "adapter_config.json", folder / "adapter_model.safetensors", shapes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "options"), ADAPTERS, ids=str)
def test_an_adapter_made_by_peft_passes_for_its_base(tmp_path, kind, options):
    from peft.tuners.lora import LoraLayer

    model = saved_adapter(kind, options, tmp_path)
    facts = checked(tmp_path)
    adapted = {name.removeprefix("base_model.model."): layer for name, layer in model.named_modules()
               if isinstance(layer, LoraLayer)}  # fmt: skip
    assert [layer.path for layer in facts.layers] == sorted(adapted)
    for layer in facts.layers:
        assert adapted[layer.path].scaling["default"] == pytest.approx(facts.scaling)
        assert (adapted[layer.path].out_features, adapted[layer.path].in_features) == (
            layer.d_out,
            layer.d_in,
        )
    assert facts.parameters == model.get_nb_trainable_parameters()[0]
    assert facts.base == f"tiny/{kind}"
    assert check_card((tmp_path / "README.md").read_bytes()).front_matter["library_name"] == "peft"


@pytest.mark.parametrize(("kind", "options"), ADAPTERS, ids=str)
def test_what_passed_loads_whole_and_leaves_the_base_as_it_was(tmp_path, kind, options, recwarn):
    import torch
    from peft import PeftModel

    saved = saved_adapter(kind, options, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(checked(tmp_path).config))
    base = type(saved.get_base_model()).from_pretrained(tmp_path / "base")
    before = {key: value.clone() for key, value in base.state_dict().items()}
    recwarn.clear()
    loaded = PeftModel.from_pretrained(base, str(tmp_path))
    assert not [warning for warning in recwarn if "adapter keys" in str(warning.message)]
    tokens = torch.arange(6).view(1, -1)
    inputs = {"input_ids": tokens} | ({"decoder_input_ids": tokens} if kind == "t5" else {})
    torch.testing.assert_close(loaded(**inputs).logits, saved.eval()(**inputs).logits)
    after = loaded.unload().state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("dtype", "name"), [("float16", "F16"), ("bfloat16", "BF16")])
def test_an_adapter_in_half_precision_passes(tmp_path, dtype, name):
    saved_adapter("t5", ADAPTERS[0][1], tmp_path, dtype)
    assert checked(tmp_path).dtype == name


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_for_one_base_is_refused_for_another(tmp_path):
    saved_adapter("t5", ADAPTERS[0][1], tmp_path)
    tiny_llama().save_pretrained(tmp_path / "base")
    with pytest.raises(GateRefusal) as refusal:
        checked(tmp_path)
    assert refusal.value.code == "layer_not_in_base"


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_carries_embeddings_of_the_base_is_refused(tmp_path):
    model = saved_adapter("llama", ADAPTERS[7][1], tmp_path)
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    with pytest.raises(GateRefusal) as refusal:
        checked(tmp_path)
    assert refusal.value.code == "embeddings_saved"
    assert "save_embedding_layers=False" in refusal.value.message


# --- a mixture of experts ------------------------------------------------------


def mixtral(folder: Path, targets: Any) -> Path:
    """A tiny Mixtral, and an adapter as peft makes it of these target_modules."""
    import torch
    from peft import get_peft_model
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    base = MixtralForCausalLM(MixtralConfig(**sizes, **heads))
    base.save_pretrained(folder / "base")
    model = get_peft_model(base, lora_config(task_type="CAUSAL_LM", r=2, target_modules=targets))
    model.peft_config["default"].base_model_name_or_path = "tiny/mixtral"
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "w1", "w2", "w3"], ["q_proj", "gate"]], ids=str)
def test_what_peft_makes_of_a_mixture_s_layers_is_refused_with_the_layers_to_name(tmp_path, targets):
    """It turns all-linear, the router and w1, w2, w3 into target_parameters, whatever the person wrote."""
    with pytest.raises(GateRefusal) as refusal:
        checked(mixtral(tmp_path, targets))
    assert refusal.value.codes[0] == "target_parameters_not_supported"
    assert 'target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]' in refusal.value.message
    has_experts = "gate" not in targets
    assert ("moe_experts" in refusal.value.codes) == has_experts


@pytest.mark.filterwarnings("ignore")
def test_the_advice_for_a_mixture_leads_to_an_adapter_that_comes_in(tmp_path):
    facts = checked(mixtral(tmp_path, ["q_proj", "k_proj", "v_proj", "o_proj"]))
    assert facts.targets == ("k_proj", "o_proj", "q_proj", "v_proj")
    assert facts.not_composable == ""


# --- copies of the base's own weights ------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_tied", [True, False], ids=["a tied head", "a head of its own"])
def test_what_peft_saves_beside_a_lora_on_the_head_is_left_out_for_a_known_base(tmp_path, is_tied):
    """save_embedding_layers is "auto" unless somebody says otherwise."""
    import torch
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": is_tied}
    base = LlamaForCausalLM(LlamaConfig(**sizes, **heads)).to(torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    model = get_peft_model(
        base.float(), lora_config(task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"])
    )
    model.peft_config["default"].base_model_name_or_path = "tiny/llama"
    model.save_pretrained(tmp_path)
    files = (tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors")
    shapes, own = read_base(tmp_path / "base")
    facts = check_adapter(*files, shapes, base_weights=own)
    assert "base_model.model.lm_head.base_layer.weight" in facts.left_out
    assert facts.targets == ("lm_head", "q_proj")
    with pytest.raises(GateRefusal, match="save_embedding_layers=False"):
        check_adapter(*files, shapes)
