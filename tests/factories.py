"""Small things that tests are made of: adapters and base models of a few kilobytes, users, modules."""

import json
from collections.abc import Mapping
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
