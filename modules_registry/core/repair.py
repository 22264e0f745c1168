"""Repair what keeps an old adapter from being read although its weights say everything that is missing.

Each repair has one meaning or is not made: the rank is that of every pair of factors. What its own author
can change is refused at an upload. The gate repairs the names of the tensors, the list of layers, the name of
the base and how the types are written, on every way in, and refuses the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules_registry.core.adapter_file import TensorEntry
from modules_registry.core.errors import LEGACY_FILE, WEIGHTS_FILE, Repair
from modules_registry.core.strict_json import quote_value
from modules_registry.core.tensor_names import repair_names, shapes_by_factor

KEYS_OF_2023 = ("enable_lora", "merge_weights")  # peft before 0.3; neutral when empty or false
CONVERTED = Repair("converted", f"Converted {LEGACY_FILE} to {WEIGHTS_FILE}; nothing in it was run.")
EMPTY: tuple[object, ...] = (None, False, [])


@dataclass
class Repaired:
    """The config as it should be, and what was done to get there."""

    config: dict[str, Any]
    repairs: list[Repair] = field(default_factory=list)

    def note(self, code: str, sentence: str) -> None:
        self.repairs.append(Repair(code, sentence))


def repair_adapter(
    config: Mapping[str, Any],
    tensors: Sequence[TensorEntry],
    *,
    task_type: str = "",
) -> Repaired:
    """Repair what can be repaired.

    Args:
        config: adapter_config.json as it came.
        tensors: those of the weights file.
        task_type: that of the base, when the library knows it.
    """
    repaired = Repaired(dict(config))
    repair_rank(repaired, list(shapes_by_factor(tensors, repair_names(tensors).names)))
    repair_task_type(repaired, task_type)
    drop_old_keys(repaired)
    return repaired


def repair_rank(repaired: Repaired, factors: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
    """A is (r, d_in) and B is (d_out, r)."""
    ranks = {shape[0] if factor == "A" else shape[1] for _, factor, shape in factors}
    given = repaired.config.get("r")
    if len(ranks) != 1 or given in list(ranks):  # whatever r is: a list or an object has no hash
        return
    (rank,) = ranks
    repaired.config["r"] = rank
    was = "was missing" if given is None else f"was {quote_value(given)}"
    repaired.note("rank", f"Set r to {rank}, as the weights have it; it {was}.")


def repair_task_type(repaired: Repaired, task_type: str) -> None:
    if repaired.config.get("task_type") is not None or not task_type:
        return
    repaired.config["task_type"] = task_type
    repaired.note("task_type", f"Set task_type to {task_type}, as its base has it; it was missing.")


def drop_old_keys(repaired: Repaired) -> None:
    """Keys of the first versions of peft that say nothing: any others are the gate's to judge."""
    old = [key for key in KEYS_OF_2023 if key in repaired.config and repaired.config[key] in EMPTY]
    for key in old:
        del repaired.config[key]
    if old:
        repaired.note("old_keys", f"Left out {' and '.join(old)}, which peft no longer has.")
