"""LoraHub's repositories as they are on the Hub since 2023: their files, names and keys, other weights.

A config of 411 bytes, a card of 27, weights pickled by torch.save; the base is a T5 with the layer names of
google/flan-t5-large and few, narrow layers.
"""

import io
import json
import shutil
from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

RANK, ALPHA = 16, 32
CARD = b"---\nlibrary_name: peft\n---\n"
CONFIG = {
    "base_model_name_or_path": "google/flan-t5-large",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_alpha": ALPHA,
    "lora_dropout": 0.1,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": RANK,
    "revision": None,
    "target_modules": ["q", "v"],
    "task_type": "SEQ_2_SEQ_LM",
}
CONFIG_FILE = json.dumps(CONFIG, indent=2, sort_keys=True).encode()
TOKENIZER = "tokenizer.json", "tokenizer_config.json"
LAYERS, WIDTH, HEADS = 2, 64, 4
SIZE_OF_A_FACTOR = 0.05  # so that a module changes what the base says, and does not drown it


def make_base_folder(folder: Path, tokenizer: Path) -> Path:
    """A T5 in transformers' own files, with the tokenizer of another folder."""
    vocabulary = json.loads((tokenizer / "config.json").read_bytes())["vocab_size"]
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        num_heads=HEADS,
        d_ff=2 * WIDTH,
        num_layers=LAYERS,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(tokenizer / name, folder)
    return folder


def layers() -> list[str]:
    """The paths of q and v in every attention, as T5 names them."""
    encoder = [f"encoder.block.{i}.layer.0.SelfAttention" for i in range(LAYERS)]
    decoder = [
        f"decoder.block.{i}.layer.{place}"
        for i in range(LAYERS)
        for place in ("0.SelfAttention", "1.EncDecAttention")
    ]
    return [f"{attention}.{target}" for attention in encoder + decoder for target in "qv"]


def paper_repository(seed: int) -> dict[str, bytes]:
    random = torch.Generator().manual_seed(seed)
    state = {
        f"base_model.model.{layer}.lora_{factor}.weight": SIZE_OF_A_FACTOR
        * torch.randn(shape, generator=random)
        for layer in layers()
        for factor, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK)))
    }
    file = io.BytesIO()
    torch.save(state, file)
    return {
        ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": CARD,
        "adapter_config.json": CONFIG_FILE,
        "adapter_model.bin": file.getvalue(),
    }
