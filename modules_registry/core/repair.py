"""Mend what keeps an old adapter from being read although its weights say everything that is missing.

Each repair has one meaning or is not made: the rank is that of every pair of factors, the name of the
adapter in the tensors' names is one and the same. What is left goes to the gate, which refuses the rest.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules_registry.core.adapter_config import is_base_name
from modules_registry.core.adapter_file import TensorEntry
from modules_registry.core.strict_json import quote_value

# "….lora_A.default.weight": what a model in memory calls them; peft leaves the adapter's name out on disk.
NAMED_ADAPTER = re.compile(r"(?P<before>.+\.lora_[AB])\.(?P<adapter>[A-Za-z0-9_-]{1,64})\.weight")
FACTOR = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<factor>[AB])\.weight")
KEYS_OF_2023 = ("enable_lora", "merge_weights")  # peft before 0.3; neutral when empty or false
EMPTY: tuple[object, ...] = (None, False, [])


@dataclass(frozen=True)
class Repair:
    """One thing that was mended. The code is for programs and stays; the sentence is for people."""

    code: str
    sentence: str


@dataclass
class Repaired:
    """The config and the tensors' names as they should be, and what was done to get there."""

    config: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)  # old name -> new name, where they differ
    repairs: list[Repair] = field(default_factory=list)

    def note(self, code: str, sentence: str) -> None:
        self.repairs.append(Repair(code, sentence))


def repair_adapter(
    config: Mapping[str, Any],
    tensors: Sequence[TensorEntry],
    *,
    base: str = "",
    card_base: str = "",
    task_type: str = "",
) -> Repaired:
    """Repair what can be repaired.

    Args:
        config: adapter_config.json as it came.
        tensors: those of the weights file.
        base: the base's name as the importing person gave it; it wins.
        card_base: the one that the card names, for a config that names none.
        task_type: that of the base, when the library knows it.
    """
    repaired = Repaired(dict(config))
    rename_tensors(repaired, tensors)
    factors = list(factors_of(tensors, repaired.names))
    repair_type(repaired)
    repair_rank(repaired, factors)
    repair_targets(repaired, factors)
    repair_base(repaired, base, card_base)
    repair_task_type(repaired, task_type)
    drop_old_keys(repaired)
    return repaired


def rename_tensors(repaired: Repaired, tensors: Sequence[TensorEntry]) -> None:
    """Leave the adapter's name out of the tensors' names, when all carry the same one."""
    matches = [NAMED_ADAPTER.fullmatch(tensor.name) for tensor in tensors]
    adapters = {match["adapter"] if match else "" for match in matches}
    if len(adapters) != 1 or "" in adapters:
        return
    repaired.names = {match.string: f"{match['before']}.weight" for match in matches if match}
    (adapter,) = adapters
    repaired.note("adapter_name", f"Left “.{adapter}.” out of the names of {len(matches)} tensors.")


def factors_of(
    tensors: Sequence[TensorEntry], names: Mapping[str, str]
) -> Iterable[tuple[str, str, tuple[int, ...]]]:
    """(layer's path, "A" or "B", shape) of every LoRA factor."""
    for tensor in tensors:
        match = FACTOR.fullmatch(names.get(tensor.name, tensor.name))
        if match and len(tensor.shape) == 2:
            yield match["path"], match["factor"], tensor.shape


def repair_type(repaired: Repaired) -> None:
    given = repaired.config.get("peft_type")
    if given == "LORA" or not (given is None or (isinstance(given, str) and given.upper() == "LORA")):
        return
    repaired.config["peft_type"] = "LORA"
    was = "was missing" if given is None else f"was {quote_value(given)}"
    repaired.note("peft_type", f"Set peft_type to “LORA”; it {was}.")


def repair_rank(repaired: Repaired, factors: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
    """A is (r, d_in) and B is (d_out, r)."""
    ranks = {shape[0] if factor == "A" else shape[1] for _, factor, shape in factors}
    given = repaired.config.get("r")
    if len(ranks) != 1 or given in ranks:
        return
    (rank,) = ranks
    repaired.config["r"] = rank
    was = "was missing" if given is None else f"was {quote_value(given)}"
    repaired.note("rank", f"Set r to {rank}, as the weights have it; it {was}.")


def repair_targets(repaired: Repaired, factors: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
    if repaired.config.get("target_modules") is not None or not factors:
        return
    targets = sorted({path.rpartition(".")[2] for path, _, _ in factors})
    repaired.config["target_modules"] = targets
    repaired.note("target_modules", f"Set target_modules to the layers in the file: {', '.join(targets)}.")


def repair_base(repaired: Repaired, base: str, card_base: str) -> None:
    given = repaired.config.get("base_model_name_or_path")
    is_good = isinstance(given, str) and is_base_name(given)
    wanted, source = (base, "as asked") if base else ("" if is_good else card_base, "as the card says")
    if not wanted or wanted == given:
        return
    repaired.config |= {"base_model_name_or_path": wanted, "revision": None}
    was = f"was {quote_value(given)}" if given else "was missing"
    repaired.note("base", f"Set the base model to {wanted}, {source}; it {was}.")


def repair_task_type(repaired: Repaired, task_type: str) -> None:
    given = repaired.config.get("task_type")
    if isinstance(given, str) and given != given.upper() and given.upper() in ("SEQ_2_SEQ_LM", "CAUSAL_LM"):
        task_type = given.upper()
    elif given is not None or not task_type:
        return
    repaired.config["task_type"] = task_type
    was = "was missing" if given is None else f"was {quote_value(given)}"
    repaired.note("task_type", f"Set task_type to {task_type}; it {was}.")


def drop_old_keys(repaired: Repaired) -> None:
    """Keys of the first versions of peft that say nothing: any others are the gate's to judge."""
    old = [key for key in KEYS_OF_2023 if key in repaired.config and repaired.config[key] in EMPTY]
    for key in old:
        del repaired.config[key]
    if old:
        repaired.note("old_keys", f"Left out {' and '.join(old)}, which peft no longer has.")
