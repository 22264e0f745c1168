"""Adapters as trainers write them: many kinds of base, rank, precision, choice of layers and version of peft.

Everything is drawn from the number of the adapter, so the same number is the same adapter.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.modules_registry.core.test_model_types import small_config

KINDS = {
    "t5": ["q", "v", "k", "wi", "wo"],
    "llama": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "lm_head"],
    "qwen2": ["q_proj", "k_proj", "v_proj", "up_proj"],
    "qwen3_moe": ["q_proj", "k_proj", "v_proj", "o_proj"],  # the attention only: experts lie in one tensor
    "gemma": ["q_proj", "v_proj", "gate_proj", "lm_head"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "mistral": ["q_proj", "v_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "bloom": ["query_key_value", "dense", "dense_h_to_4h"],
    "opt": ["q_proj", "v_proj", "out_proj", "fc1"],
}
RANKS = (1, 2, 4, 8, 16, 64, 256)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The keys of adapter_config.json in versions of peft, each with those of the ones before.
KEYS_SINCE = {
    "0.3": ("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights",
            "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type"),
    "0.4": ("revision", "layers_to_transform", "layers_pattern"),
    "0.6": ("rank_pattern", "alpha_pattern", "auto_mapping"),
    "0.8": ("use_rslora", "megatron_config", "megatron_core", "loftq_config"),
    "0.10": ("use_dora", "layer_replication"),
    "0.14": ("eva_config", "exclude_modules", "lora_bias"),
    "0.21": (),  # all that it writes
}  # fmt: skip
VERSIONS = tuple(KEYS_SINCE)
WRAPPERS = ("", "", "", "", "module.", "_orig_mod.", "base_model.model.")
CHOICES = ("names", "names", "unused names", "pattern", "all-linear", "excluded", "first layer")


@dataclass(frozen=True)
class Drawn:
    """What kind of adapter a number stands for."""

    number: int
    kind: str
    dtype: torch.dtype
    version: str
    wrapper: str
    options: dict[str, Any]


def draw(number: int) -> Drawn:
    random_number = random.Random(number)
    kind = list(KINDS)[number % len(KINDS)]
    names = random_number.sample(KINDS[kind], random_number.randint(1, len(KINDS[kind])))
    version = VERSIONS[(number // len(KINDS)) % len(VERSIONS)]
    known = {key for each in VERSIONS[: VERSIONS.index(version) + 1] for key in KEYS_SINCE[each]}
    options: dict[str, Any] = {
        "r": RANKS[number % len(RANKS)],
        "lora_alpha": random_number.choice((1, 8, 16, 32, 0.5)),
        "target_modules": names,
        "fan_in_fan_out": kind == "gpt2",
        "task_type": random_number.choice((None, "SEQ_2_SEQ_LM" if kind == "t5" else "CAUSAL_LM")),
    }
    options |= draw_layers(random_number.choice(CHOICES), kind, names, known)
    options |= draw_variant(random_number, names, options["r"], known)
    return Drawn(number, kind, DTYPES[number % len(DTYPES)], version, random_number.choice(WRAPPERS), options)


def draw_layers(choice: str, kind: str, names: list[str], known: set[str]) -> dict[str, Any]:
    """How the configuration says which layers these are."""
    if choice == "unused names":
        return {"target_modules": [*names, "c_nothing", "W_pack"]}
    if choice == "pattern":
        return {"target_modules": rf".*\.({'|'.join(names)})"}
    if choice == "all-linear" and kind != "qwen3_moe":
        return {"target_modules": "all-linear"}
    if choice == "excluded" and "exclude_modules" in known:
        return {"target_modules": KINDS[kind], "exclude_modules": KINDS[kind][1:]}
    has_numbered_layers = kind != "t5" and "lm_head" not in names
    if choice == "first layer" and "layers_to_transform" in known and has_numbered_layers:
        return {"layers_to_transform": [0]}
    return {}


def draw_variant(
    random_number: random.Random, names: list[str], rank: int, known: set[str]
) -> dict[str, Any]:
    """Scalings, ranks of single layers and magnitudes, as far as that version of peft has them."""
    options: dict[str, Any] = {}
    if "use_rslora" in known and random_number.random() < 0.2:
        options["use_rslora"] = True
    elif "rank_pattern" in known and random_number.random() < 0.3:
        options["rank_pattern"] = {names[0]: rank + 3}
        options["alpha_pattern"] = {names[-1]: 5}
    if "use_dora" in known and random_number.random() < 0.15:
        options["use_dora"] = True
    return options


@cache
def base_folder(root: Path, kind: str) -> Path:
    """A small base of this kind, saved as transformers saves it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.manual_seed(len(kind))
    config = AutoConfig.for_model(kind, **small_config(kind))
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    auto.from_config(config).save_pretrained(root / kind)
    return root / kind


def load_base(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    is_pair = AutoConfig.from_pretrained(folder).is_encoder_decoder
    auto = AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: Any) -> torch.Tensor:
    """Of eight tokens, in fp32."""
    ids = torch.arange(3, 11).reshape(1, 8)
    pair = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **pair).logits


def save_drawn(drawn: Drawn, base: Path, folder: Path) -> torch.Tensor:
    """Write the adapter as its trainer does, and return its logits under peft itself.

    peft gets the LoRA under the names that it writes, on the base's own weights; `folder` gets the names that
    a wrapper left, and the copies that peft saves beside a LoRA on the head, rounded as all the others.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(drawn.number)
    model = get_peft_model(load_base(base), LoraConfig(**drawn.options))
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "magnitude" in name:
            parameter.data.mul_(1.1)
    model.peft_config["default"].base_model_name_or_path = f"tests/{drawn.kind}"
    plain = folder / "plain"
    has_head = "lm_head" in drawn.options["target_modules"]  # then "auto" writes the base's own beside it
    model.save_pretrained(plain, save_embedding_layers=has_head)  # as "auto", without asking a Hub
    tensors = load_file(plain / "adapter_model.safetensors")
    tensors = {name: tensor.to(drawn.dtype).contiguous() for name, tensor in tensors.items()}
    lora = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    save_file(lora, plain / "adapter_model.safetensors", metadata={"format": "pt"})
    by_peft = logits(PeftModel.from_pretrained(load_base(base), plain).eval())
    wrapped = {f"{drawn.wrapper}{name}": tensor for name, tensor in tensors.items()}
    save_file(wrapped, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    written = json.loads((plain / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(as_written_by(drawn.version, written)))
    return by_peft


def as_written_by(version: str, config: dict[str, Any]) -> dict[str, Any]:
    """The config as an earlier version of peft wrote it."""
    if version == VERSIONS[-1]:
        return config
    known = [key for each in VERSIONS[: VERSIONS.index(version) + 1] for key in KEYS_SINCE[each]]
    old = {key: config[key] for key in known if key in config}
    return old | ({"enable_lora": None, "merge_weights": False} if version == "0.3" else {})
