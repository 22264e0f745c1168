"""N LoRA modules as one (N, parameters) stack.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

The files of a module were written by a stranger. They are read here directly,
key by allowed key: peft would also load whatever else the file holds, the base
model's own weights included.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from composer.core.errors import MismatchedModulesError, ModuleUnreadableError, NoModulesError

FACTOR_KEY = re.compile(r"base_model\.model\.(?P<path>[A-Za-z0-9_.]{1,300})\.lora_(?P<factor>[AB])\.weight")
CONFIG_SIZE_LIMIT = 1_000_000  # bytes; a plain adapter_config.json has about 1 kB
RANK_LIMIT = 1024
ALPHA_LIMIT = 1_000_000

# A field of adapter_config.json that would change the arithmetic, and the values that do not.
NEUTRAL_CONFIG: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layer_replication": ([], None),
    "lora_bias": (False, None),
    "trainable_token_indices": ([], {}, None),
    "target_parameters": ([], None),
}


@dataclass(frozen=True)
class LoraModule:
    """One module as its files tell it. `factors` maps a layer's path to (A, B), both fp32."""

    name: str
    rank: int
    scaling: float  # what multiplies B @ A: alpha / rank, or alpha / √rank for rank-stabilised LoRA
    factors: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Layer:
    """A linear layer that at least one module changes; its frozen weight is (d_out, d_in)."""

    path: str
    d_out: int
    d_in: int


@dataclass(frozen=True)
class ModuleStack:
    """N modules in one buffer, so that composing is one product.

    A row of `flat` holds, layer by layer, A (rank, d_in) and then B (d_out, rank), where
    rank is the largest of all modules. A smaller rank and a layer that a module lacks are
    filled with zeros, which changes no delta.

    Attributes:
        names: N names.
        layers: every layer that some module changes, in a fixed order.
        rank: the rank of every row of the stack, the largest of all modules.
        ranks: N ranks as stored.
        scalings: (N,) what multiplies B @ A.
        flat: (N, parameters) fp32.
        targets: N sets of layer paths.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    rank: int
    ranks: tuple[int, ...]
    scalings: Tensor
    flat: Tensor
    targets: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        return len(self.names)

    def factors(self, flat: Tensor | None = None) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, A (N, rank, d_in), B (N, d_out, rank)) of each layer, as views.

        `flat`: rows laid out as the stack's own, for example mixtures of them; the stack itself if None.
        """
        rows = self.flat if flat is None else flat
        start = 0
        for layer in self.layers:
            middle = start + self.rank * layer.d_in
            end = middle + layer.d_out * self.rank
            A = rows[:, start:middle].view(-1, self.rank, layer.d_in)
            B = rows[:, middle:end].view(-1, layer.d_out, self.rank)
            yield layer.path, A, B
            start = end

    def subset(self, indices: Sequence[int]) -> "ModuleStack":
        """The stack of these modules alone, in this order, with the same layout."""
        chosen = list(indices)
        if chosen == list(range(len(self))):
            return self  # hundreds of modules are gigabytes: no copy without need
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            ranks=tuple(self.ranks[i] for i in chosen),
            scalings=self.scalings[chosen],
            flat=self.flat[chosen],
            targets=tuple(self.targets[i] for i in chosen),
        )


def read_module(folder: Path, name: str) -> LoraModule:
    """Read one plain peft LoRA adapter; only its A and B factors are ever touched.

    Raises:
        ModuleUnreadableError: it is something else, or a value is not finite.
    """
    rank, scaling = read_config(folder / "adapter_config.json", name)
    found: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                match = FACTOR_KEY.fullmatch(key)
                if match is None:
                    raise ModuleUnreadableError(name, f"it holds {key[:120]!r}, which is no LoRA factor")
                found.setdefault(match["path"], {})[match["factor"]] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ModuleUnreadableError(name, "its adapter_model.safetensors is missing or damaged") from error
    if not found:
        raise ModuleUnreadableError(name, "it holds no LoRA factors")
    factors = {path: checked_pair(name, path, rank, pair) for path, pair in found.items()}
    return LoraModule(name, rank, scaling, factors)


def read_config(path: Path, name: str) -> tuple[int, float]:
    """(rank, scaling) of a plain LoRA config; refuses every field that would change the arithmetic.

    Rank-stabilised LoRA divides by √rank. Source: Kalajdzievski, arXiv:2312.03732.
    """
    try:
        if path.stat().st_size > CONFIG_SIZE_LIMIT:
            raise ModuleUnreadableError(name, "its adapter_config.json is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModuleUnreadableError(name, "its adapter_config.json is missing or not JSON") from error
    if not isinstance(config, dict):
        raise ModuleUnreadableError(name, "its adapter_config.json is not a JSON object")
    for field, neutral in NEUTRAL_CONFIG.items():
        if config.get(field, neutral[0]) not in neutral:
            raise ModuleUnreadableError(name, f"{field} has a value that cannot be composed")
    rank, alpha = whole_rank(name, config.get("r")), positive_alpha(name, config.get("lora_alpha"))
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def whole_rank(name: str, rank: Any) -> int:
    """`rank`, if it is one."""
    if type(rank) is not int or not 1 <= rank <= RANK_LIMIT:
        raise ModuleUnreadableError(name, f"its rank must be a whole number from 1 to {RANK_LIMIT}")
    return rank


def positive_alpha(name: str, alpha: Any) -> float:
    """`alpha`, if it is a positive number."""
    if type(alpha) not in (int, float) or not 0 < alpha < ALPHA_LIMIT:
        raise ModuleUnreadableError(name, f"its lora_alpha must be a positive number below {ALPHA_LIMIT}")
    return float(alpha)


def checked_pair(name: str, path: str, rank: int, pair: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(A, B) in fp32, once both are there, of the stated rank, real and finite."""
    if pair.keys() != {"A", "B"}:
        raise ModuleUnreadableError(name, f"{path} has only one of its two factors")
    A, B = pair["A"], pair["B"]
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != rank or B.shape[1] != rank:
        raise ModuleUnreadableError(name, f"the factors of {path} do not have rank {rank}")
    if not (A.dtype.is_floating_point and B.dtype.is_floating_point):
        raise ModuleUnreadableError(name, f"the factors of {path} are not floating point numbers")
    A, B = A.float(), B.float()
    if not (A.isfinite().all() and B.isfinite().all()):
        raise ModuleUnreadableError(name, f"{path} holds values that are not finite numbers")
    return A, B


def stack_modules(modules: Sequence[LoraModule]) -> ModuleStack:
    """Lay N modules side by side.

    Raises:
        NoModulesError: N is 0.
        MismatchedModulesError: a layer has another size in one module than in another.
    """
    if not modules:
        raise NoModulesError
    layers = common_layers(modules)
    rank = max(module.rank for module in modules)
    width = sum(rank * (layer.d_in + layer.d_out) for layer in layers)
    stack = ModuleStack(
        names=tuple(module.name for module in modules),
        layers=layers,
        rank=rank,
        ranks=tuple(module.rank for module in modules),
        scalings=torch.tensor([module.scaling for module in modules], dtype=torch.float32),
        flat=torch.zeros(len(modules), width),
        targets=tuple(frozenset(module.factors) for module in modules),
    )
    for path, all_A, all_B in stack.factors():
        for i, module in enumerate(modules):
            if path in module.factors:
                A, B = module.factors[path]
                all_A[i, : module.rank] = A
                all_B[i, :, : module.rank] = B
    return stack


def common_layers(modules: Sequence[LoraModule]) -> tuple[Layer, ...]:
    """Every layer that some module changes, sorted by path."""
    sizes: dict[str, Layer] = {}
    for module in modules:
        for path, (A, B) in module.factors.items():
            layer = Layer(path, d_out=B.shape[0], d_in=A.shape[1])
            known = sizes.setdefault(path, layer)
            if known != layer:
                raise MismatchedModulesError(
                    f"{path} is {layer.d_out} x {layer.d_in} in {module.name} and "
                    f"{known.d_out} x {known.d_in} in another module: "
                    "they were trained for different base models."
                )
    return tuple(sizes[path] for path in sorted(sizes))
