"""Small things that tests are made of: adapters and base models of a few kilobytes, users, modules."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save

from hub_site.accounts.models import User
from modules_registry.base_models import base_model_add
from modules_registry.models import BaseModel, Module
from modules_registry.services import module_publish

WIDTH = 8  # d_in and d_out of every layer of the tiny base
LAYERS = tuple(f"encoder.block.0.layer.0.SelfAttention.{name}" for name in "qv")
BASE_NAME = "tests/tiny"


def adapter_config(**changes: Any) -> dict[str, Any]:
    return {
        "base_model_name_or_path": BASE_NAME,
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.1,
        "target_modules": ["q", "v"],
    } | changes


def adapter_tensors(rank: int = 2, seed: int = 0, width: int = WIDTH) -> dict[str, np.ndarray]:
    """One A (r, d_in) and one B (d_out, r) per layer, as peft names them."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in LAYERS:
        for factor, shape in (("A", (rank, width)), ("B", (width, rank))):
            name = f"base_model.model.{layer}.lora_{factor}.weight"
            tensors[name] = random.normal(size=shape).astype(np.float32)
    return tensors


def config_file(**changes: Any) -> BinaryIO:
    return named(json.dumps(adapter_config(**changes)).encode(), "adapter_config.json")


def weights_file(tensors: Mapping[str, np.ndarray] | None = None, **options: Any) -> BinaryIO:
    return named(save(dict(tensors or adapter_tensors(**options))), "adapter_model.safetensors")


def card_file(text: str = "# A card\n\nWhat it was trained on.\n") -> BinaryIO:
    return named(text.encode(), "README.md")


def named(data: bytes, name: str) -> BinaryIO:
    """A file as a client uploads it."""
    file = BytesIO(data)
    file.name = name
    return file


def adapter_files(seed: int = 0, **changes: Any) -> dict[str, BinaryIO]:
    return {"config_file": config_file(**changes), "weights_file": weights_file(seed=seed)}


def base_folder(folder: Path, **changes: Any) -> Path:
    """A base model's folder as transformers writes it, with the layers of the adapters above."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "d_model": WIDTH,
    }
    tensors = {f"{layer}.weight": np.zeros((WIDTH, WIDTH), np.float32) for layer in LAYERS}
    tensors["shared.weight"] = np.zeros((16, WIDTH), np.float32)
    (folder / "config.json").write_text(json.dumps(config | changes))
    (folder / "model.safetensors").write_bytes(save(tensors))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def make_base(folder: Path, name: str = BASE_NAME) -> BaseModel:
    base, _ = base_model_add(folder=base_folder(folder), name=name, licence="apache-2.0")
    return base


def make_module(owner: User, name: str = "french", *, seed: int = 0, **described: Any) -> Module:
    """Publish a small module through the very service that the pages use."""
    said = {"sentence": "Translates words into French.", "licence": "mit", "tags": ["french"]} | described
    files = {"config_file": config_file(), "weights_file": weights_file(seed=seed)}
    return module_publish(author=owner, namespace=owner.namespace, name=name, **(files | said))


# Formats of other programs, and peft's under another file name: how they name a tensor that peft calls
# base_model.model.<layer>.lora_A.weight, and what is said of such a file by every way in.
OTHER_FORMATS: dict[str, tuple[Callable[[str], str], str]] = {
    "kohya": (lambda name: f"lora_unet_{name}", "is in kohya's format"),
    "diffusers": (lambda name: f"unet.{name}", "is a LoRA of diffusers"),
    "MLX": (lambda name: name.removeprefix("base_model.model.").replace(".lora_A.weight", ".lora_a")
            .replace(".lora_B.weight", ".lora_b"), "is an MLX adapter"),
    "Megatron": (lambda name: f"decoder.layers.0.mlp.linear_fc1.{name}".replace("base_model.", ""),
                 "is an adapter with the layers of Megatron"),
    "a whole model": (lambda name: name.replace("base_model.", "").replace(".lora_", "."),
                      "is a whole model"),
    "peft": (str, "is an adapter of peft under another name"),
}  # fmt: skip
