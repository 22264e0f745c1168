"""The composition as a plain peft adapter: written, loaded by peft and compared with the search."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from composer.core.methods.base import Adapters, PlainLora
from composer.core.model.base_model import FrozenBaseModel, TokenBatch
from composer.core.spec.errors import ExportMismatchError

# Largest difference of a logit, relative to the largest logit; rounding alone gives about 1e-6 and 1e-2.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


@dataclass(frozen=True)
class ParentModule:
    """A module that the composition has a weight for.

    Attributes:
        name: of the module.
        revision: its commit id; may be empty.
        weight: the module's weight; with weights by layer their mean.
    """

    name: str
    revision: str
    weight: float


def write_adapter(lora: PlainLora, base: FrozenBaseModel, base_name: str, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors into `folder`.

    The same composition gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{path}.lora_{factor_name}.weight": factor.cpu().contiguous()
        for path, pair in lora.factors.items()
        for factor_name, factor in zip("AB", pair, strict=True)
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = adapter_config(lora, base, base_name)
    (folder / "adapter_config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def adapter_config(lora: PlainLora, base: FrozenBaseModel, base_name: str) -> dict[str, Any]:
    """Return the adapter_config.json that peft needs to load the adapter, without patterns by layer."""
    return {
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": base.stores_transposed(lora.factors),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": target_modules(list(lora.factors), list(base.linear_layers())),
        "task_type": "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def target_modules(paths: Sequence[str], all_paths: Sequence[str]) -> list[str]:
    """Return the layers' short names if these match exactly those layers, else their whole paths.

    peft compares each name with the end of a path, at a dot.

    Args:
        paths: of the adapter's layers.
        all_paths: of all linear layers of the base model.
    """
    short = {path.rpartition(".")[2] for path in paths}
    meant = {path for path in all_paths if path.rpartition(".")[2] in short}
    return sorted(short) if meant == set(paths) else sorted(paths)


@contextmanager
def loaded_by_peft(base: FrozenBaseModel, folder: Path) -> Iterator[Any]:
    """Yield the base model with the written adapter, loaded as any user loads it; unload it afterwards."""
    wrapped = PeftModel.from_pretrained(base.model, str(folder), low_cpu_mem_usage=True)
    try:
        yield wrapped.eval()
    finally:
        wrapped.unload()


@torch.no_grad()
def require_same_logits(base: FrozenBaseModel, wrapped: Any, batch: TokenBatch, expected: Tensor) -> None:
    """Refuse an adapter whose logits under peft differ from those of the search.

    Args:
        base: the frozen model.
        wrapped: the base model with the adapter, by peft.
        batch: n examples.
        expected: (n, length, vocabulary) logits of the composition in the search.

    Raises:
        ExportMismatchError: the largest difference, relative to the largest expected logit (at least 1), is
            above TOLERANCE.
    """
    found = wrapped(**batch.inputs, use_cache=False).logits
    real = batch.inputs.get("attention_mask") if not base.is_encoder_decoder else None
    if real is not None:  # a decoder's logits at padding are never used
        found, expected = found[real.bool()], expected[real.bool()]
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    if not difference <= TOLERANCE[base.precision]:
        raise ExportMismatchError(difference)


@torch.no_grad()
def searched_logits(base: FrozenBaseModel, batch: TokenBatch, adapters: Adapters) -> Tensor:
    """Return logits (n, length, vocabulary) of one candidate, computed by the hooks as in the search."""
    return base.logits(batch, adapters)


def write_card(
    folder: Path, *, title: str, base_name: str, method: str, parents: Sequence[ParentModule], text: str
) -> None:
    """Write README.md: what the adapter was made of, for people and for Hubs.

    Args:
        folder: of the adapter.
        title: of the card.
        base_name: of the base model.
        method: a name in choices.METHODS.
        parents: in the order of the table.
        text: what was measured.
    """
    rows = "\n".join(
        f"| {cell(parent.name)} | {cell(parent.revision) or '-'} | {parent.weight:+.4f} |"
        for parent in parents
    )
    card = f"""---
base_model: {json.dumps(base_name)}
library_name: peft
tags:
- lora
- composed
---

# {title}

A LoRA adapter for `{base_name}`, composed by the method `{method}` from {len(parents)} modules.

{text}

## Parents and weights

| module | revision | weight |
| --- | --- | ---: |
{rows}

Load it with `PeftModel.from_pretrained(base, folder)`.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def cell(text: str) -> str:
    """Return text that is safe in one cell of a Markdown table, at most 200 characters."""
    return "".join(character if character.isalnum() or character in "-_./ " else "_" for character in text)[
        :200
    ]
