"""The composition as a plain peft adapter: written, loaded by peft and compared with the search."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from composer.core.evaluation.licence import OF_NO_MODULE, AdapterLicense
from composer.core.methods.base import Adapters, PlainLora
from composer.core.model.base_model import FrozenBaseModel, TokenBatch
from composer.core.model.t5 import IGNORED
from composer.core.spec.counting import count_noun

# Largest difference of the loss in nats per label token, relative to the loss where that is above 1, and of
# two logits that may change places, relative to the largest logit. Rounding alone gives about 1e-6 and 1e-2.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


@dataclass(frozen=True)
class ParentModule:
    """A module that the composition has a weight for.

    Attributes:
        name: of the module.
        revision: its commit id; may be empty.
        weight: the module's weight; with weights by layer their mean.
        copies: names of the modules that it represents, the most similar first.
    """

    name: str
    revision: str
    weight: float
    copies: tuple[str, ...] = ()


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
    write_config(folder, adapter_config(lora, base, base_name))


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write adapter_config.json, in the same bytes for the same keys and values."""
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


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
    with warnings.catch_warnings():  # peft 0.21, not we, asks transformers 5 by a name that it gives up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = PeftModel.from_pretrained(base.model, str(folder), low_cpu_mem_usage=True)
    try:
        yield wrapped.eval()
    finally:
        wrapped.unload()


@dataclass(frozen=True)
class ExportCheck:
    """The written adapter, loaded by peft, beside the composition in the search, at the label tokens.

    Attributes:
        precision: "fp32" or "bf16", in which both were computed.
        searched_loss_nats: of the composition in the search, in nats per label token.
        loss_nats: of the written adapter, in nats per label token.
        n_labels: the label tokens of all examples.
        n_other_tokens: label positions where the two predict different tokens, and not by rounding.
    """

    precision: str
    searched_loss_nats: float
    loss_nats: float
    n_labels: int
    n_other_tokens: int

    @property
    def is_same(self) -> bool:
        """Return whether both are the same adapter, up to the rounding of the precision."""
        difference = abs(self.loss_nats - self.searched_loss_nats)  # NaN is never within a tolerance
        limit = TOLERANCE[self.precision] * max(1.0, self.searched_loss_nats)
        return difference <= limit and not self.n_other_tokens


@torch.no_grad()
def check_export(base: FrozenBaseModel, folder: Path, batch: TokenBatch, adapters: Adapters) -> ExportCheck:
    """Compare the adapter in `folder`, loaded by peft, with one candidate, both in the precision of `base`.

    Only label positions count: rounding moves the logits elsewhere more, and nothing is read from them.

    Args:
        base: the frozen model, with hooks on the layers of the candidate.
        folder: holds the written adapter.
        batch: n examples.
        adapters: the one candidate.
    """
    expected, labels = label_logits(base, batch, searched_logits(base, batch, adapters))
    with loaded_by_peft(base, folder) as wrapped:
        found, _ = label_logits(base, batch, wrapped(**batch.inputs, use_cache=False).logits)
    return compare_logits(expected, found, labels, base.precision)


def label_logits(base: FrozenBaseModel, batch: TokenBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return fp32 logits (T, vocabulary) and token ids (T,) of the T label tokens of all examples.

    Args:
        base: the model that gave the logits.
        batch: n examples.
        logits: (n, length, vocabulary) at every position.
    """
    labels = batch.labels
    if not base.is_encoder_decoder:  # position t predicts token t + 1
        logits, labels = logits[:, :-1], labels[:, 1:]
    scored = labels != IGNORED
    return logits[scored].float(), labels[scored]


def compare_logits(expected: Tensor, found: Tensor, labels: Tensor, precision: str) -> ExportCheck:
    """Return the comparison of two logits (T, vocabulary) at the label tokens (T,).

    Another token is predicted by rounding where its expected logit is as good as the largest one.
    """
    tokens = found.argmax(-1, keepdim=True)
    lead = expected.amax(-1) - expected.gather(-1, tokens)[:, 0]
    limit = TOLERANCE[precision] * expected.abs().amax().clamp(min=1.0)
    searched, written = (float(nn.functional.cross_entropy(logits, labels)) for logits in (expected, found))
    return ExportCheck(precision, searched, written, len(labels), int((lead > limit).sum()))


@torch.no_grad()
def searched_logits(base: FrozenBaseModel, batch: TokenBatch, adapters: Adapters) -> Tensor:
    """Return logits (n, length, vocabulary) of one candidate, computed by the hooks as in the search."""
    return base.logits(batch, adapters)


def write_card(
    folder: Path,
    *,
    title: str,
    base_name: str,
    method: str,
    parents: Sequence[ParentModule],
    text: str,
    template: str,
    licence: AdapterLicense,
) -> None:
    """Write README.md: what the adapter was made of, for people and for Hubs.

    Args:
        folder: of the adapter.
        title: of the card.
        base_name: of the base model.
        method: a name in choices.METHODS.
        parents: in the order of the table.
        text: what was measured.
        template: of the prompts that the adapter reads.
        licence: of the adapter.
    """
    made_of = f" from {count_noun(len(parents), 'module')}" if parents else ""
    stated = f"license: {licence.identifier}\n" if licence.identifier else ""
    card = f"""---
base_model: {json.dumps(base_name)}
library_name: peft
{stated}prompt_template: {json.dumps(template)}
tags:
- lora
- composed
---

# {title}

A LoRA adapter for `{base_name}`, composed by the method `{method}`{made_of}.

{text}

{parents_text(parents)}{copies_text(parents)}## License

{licence.text}

## Use

Load it with `PeftModel.from_pretrained(base, folder)`.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_trained_card(folder: Path, *, title: str, base_name: str, text: str, template: str) -> None:
    """Write README.md of an adapter that was trained on the examples.

    Args:
        folder: of the adapter.
        title: of the card.
        base_name: of the base model.
        text: how it was trained.
        template: of the prompts that the adapter reads.
    """
    card = f"""---
base_model: {json.dumps(base_name)}
library_name: peft
prompt_template: {json.dumps(template)}
tags:
- lora
---

# {title}

A LoRA adapter for `{base_name}`, made of no other modules.

{text}

## License

{OF_NO_MODULE.text}

## Use

Load it with `PeftModel.from_pretrained(base, folder)`.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def name_base_of_adapter(folder: Path, old: str, new: str) -> None:
    """Give the base model another name in the configuration and the card of an adapter written here."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    write_config(folder, config | {"base_model_name_or_path": new})
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    for line in ("base_model: {}\n", "\nA LoRA adapter for {},"):
        quote = json.dumps if line.startswith("base_model") else "`{}`".format
        text = text.replace(line.format(quote(old)), line.format(quote(new)), 1)
    card.write_text(text, encoding="utf-8")


def parents_text(parents: Sequence[ParentModule]) -> str:
    """Return the section with the table of the modules; empty if there is none."""
    if not parents:
        return ""
    rows = [
        f"| {cell(parent.name)} | {cell(parent.revision) or '-'} | {parent.weight:+.4f} |"
        for parent in parents
    ]
    head = ["## Parents and weights", "", "| module | revision | weight |", "| --- | --- | ---: |"]
    return "\n".join([*head, *rows, "", ""])


def copies_text(parents: Sequence[ParentModule]) -> str:
    """Return the paragraph that credits the modules that others represent; empty if there is none."""
    lines = [
        f"- {cell(parent.name)} stands for {', '.join(map(cell, parent.copies))}"
        for parent in parents
        if parent.copies
    ]
    if not lines:
        return ""
    head = "Copies and near-copies took part once. Their authors are credited here:"
    return "\n".join([head, "", *lines, "", ""])


def cell(text: str) -> str:
    """Return text that is safe in one cell of a Markdown table, at most 200 characters."""
    return "".join(character if character.isalnum() or character in "-_./ " else "_" for character in text)[
        :200
    ]
