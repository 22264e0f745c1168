"""N LoRA modules side by side, as one stack.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

The files of a module were written by a stranger. They are read here directly,
key by allowed key: peft would also load whatever else the file holds, the base
model's own weights included.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from composer.core.spec.choices import RANK_LIMIT
from composer.core.spec.errors import MismatchedModulesError, ModuleUnreadableError, NoModulesError

FACTOR_KEY = re.compile(r"base_model\.model\.(?P<path>[A-Za-z0-9_.]{1,300})\.lora_(?P<factor>[AB])\.weight")
CONFIG_SIZE_LIMIT = 1_000_000  # bytes; a plain adapter_config.json has about 1 kB
ALPHA_LIMIT = 1_000_000

UNSET: tuple[Any, ...] = (None, False, {}, [])
# A field of adapter_config.json that would change the arithmetic, or was trained on a base that its start
# had rewritten, and the values that do not.
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
    "init_lora_weights": (True, False, None, "gaussian"),
    "alora_invocation_tokens": UNSET,
    "arrow_config": UNSET,
    "corda_config": UNSET,
    "eva_config": UNSET,
    "kasa_config": UNSET,
    "loftq_config": UNSET,
    "lora_ga_config": UNSET,
    "monteclora_config": UNSET,
    "use_bdlora": UNSET,
    "use_qalora": UNSET,
    "velora_config": UNSET,
}


@dataclass(frozen=True)
class LoraModule:
    """One module as its files tell it.

    `factors` maps a layer's path to (A, B), both fp32. `template` is what its prompts were made with
    when it was trained, if anybody knows.
    """

    name: str
    rank: int
    scaling: float  # what multiplies B @ A: alpha / rank, or alpha / √rank for rank-stabilised LoRA
    factors: Mapping[str, tuple[Tensor, Tensor]]
    template: str | None = None


@dataclass(frozen=True)
class Layer:
    """A linear layer that at least one module changes; its frozen weight is (d_out, d_in)."""

    path: str
    d_out: int
    d_in: int


@dataclass(frozen=True)
class ModuleStack:
    """N modules side by side, layer by layer, so that composing is one product for each layer.

    A smaller rank and a layer that a module lacks are filled with zeros, which changes no delta.
    B is kept transposed: so the factors of one module and the concatenation of all modules are
    both views of the same memory, which is gigabytes for hundreds of modules.

    Attributes:
        names: N names.
        layers: L layers, every one that some module changes, in a fixed order.
        rank: the rank of every block of the stack, the largest of all modules.
        ranks: N ranks as stored.
        scalings: (N,) what multiplies B @ A.
        blocks: A (N, rank, d_in) and Bᵀ (N, rank, d_out) of each layer, fp32.
        targets: N sets of layer paths.
        templates: of the prompts of each module alone; None for the base model's own.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    rank: int
    ranks: tuple[int, ...]
    scalings: Tensor
    blocks: tuple[tuple[Tensor, Tensor], ...]
    targets: tuple[frozenset[str], ...]
    templates: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def usual_rank(self) -> int:
        """The rank that most modules have, the first of equals: one composed of many would be an outlier."""
        return Counter(self.ranks).most_common(1)[0][0]

    def largest_alike(self) -> list[int]:
        """The modules that agree in rank, layers and scaling with as many others as any do."""
        shapes = list(zip(self.ranks, self.targets, self.scalings.tolist(), strict=True))
        ((common, _),) = Counter(shapes).most_common(1)
        return [i for i, shape in enumerate(shapes) if shape == common]

    def factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, A (N, rank, d_in), B (N, d_out, rank)) of each layer, as views."""
        for layer, (A, B_T) in zip(self.layers, self.blocks, strict=True):
            yield layer.path, A, B_T.mT

    def concatenated_factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, A (N * rank, d_in), B (d_out, N * rank)) of each layer: all concatenated, as views."""
        for layer, (A, B_T) in zip(self.layers, self.blocks, strict=True):
            yield layer.path, A.flatten(0, 1), B_T.flatten(0, 1).T

    def weighted_factors(self, weights: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, Σ wᵢAᵢ (P, rank, d_in), Σ wᵢBᵢ (P, d_out, rank)) of each layer for weights (P, N)."""
        for layer, (A, B_T) in zip(self.layers, self.blocks, strict=True):
            summed_A = (weights @ A.flatten(1)).view(-1, *A.shape[1:])
            summed_B_T = (weights @ B_T.flatten(1)).view(-1, *B_T.shape[1:])
            yield layer.path, summed_A, summed_B_T.mT

    def holders(self) -> Tensor:
        """(L, N) booleans: which modules change which layer."""
        return torch.tensor([[layer.path in own for own in self.targets] for layer in self.layers])

    def subset(self, indices: Sequence[int]) -> "ModuleStack":
        """The stack of these modules alone, in this order, with the same layers and rank."""
        chosen = list(indices)
        if chosen == list(range(len(self))):
            return self  # no copy without need
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            ranks=tuple(self.ranks[i] for i in chosen),
            scalings=self.scalings[chosen],
            blocks=tuple((A[chosen], B_T[chosen]) for A, B_T in self.blocks),
            targets=tuple(self.targets[i] for i in chosen),
            templates=tuple(self.templates[i] for i in chosen),
        )

    def to(self, device: torch.device) -> "ModuleStack":
        """The stack in the memory of that device."""
        moved = tuple((A.to(device), B_T.to(device)) for A, B_T in self.blocks)
        return replace(self, scalings=self.scalings.to(device), blocks=moved)


def read_module(folder: Path, name: str, template: str | None = None) -> LoraModule:
    """Read one plain peft LoRA adapter; only its A and B factors are ever touched.

    Args:
        template: that its prompts need, if it is known.

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
    require_finite(name, factors)
    return LoraModule(name, rank, scaling, factors, template)


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
    """(A, B) in fp32, once both are there, of the stated rank, and real."""
    if pair.keys() != {"A", "B"}:
        raise ModuleUnreadableError(name, f"{path} has only one of its two factors")
    A, B = pair["A"], pair["B"]
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != rank or B.shape[1] != rank:
        raise ModuleUnreadableError(name, f"the factors of {path} do not have rank {rank}")
    if not (A.dtype.is_floating_point and B.dtype.is_floating_point):
        raise ModuleUnreadableError(name, f"the factors of {path} are not floating point numbers")
    return A.float(), B.float()


def require_finite(name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Refuse a module that holds a value which is no number, or infinite; names the layer."""
    # a NaN is both least and greatest; this reads a factor once and takes an eighth of the time of isfinite
    extremes = [extreme for pair in factors.values() for factor in pair for extreme in torch.aminmax(factor)]
    finite = torch.stack(extremes).isfinite().view(len(factors), -1).all(1).tolist()
    for path, is_finite in zip(factors, finite, strict=True):
        if not is_finite:
            raise ModuleUnreadableError(name, f"{path} holds values that are not finite numbers")


def stack_modules(modules: Sequence[LoraModule]) -> ModuleStack:
    """Lay N modules side by side.

    Raises:
        NoModulesError: N is 0.
        MismatchedModulesError: a layer has another size in one module than in another.
    """
    if not modules:
        raise NoModulesError
    layers = common_layers(modules)
    n, rank = len(modules), max(module.rank for module in modules)
    stack = ModuleStack(
        names=tuple(module.name for module in modules),
        layers=layers,
        rank=rank,
        ranks=tuple(module.rank for module in modules),
        scalings=torch.tensor([module.scaling for module in modules], dtype=torch.float32),
        blocks=tuple(
            (torch.zeros(n, rank, layer.d_in), torch.zeros(n, rank, layer.d_out)) for layer in layers
        ),
        targets=tuple(frozenset(module.factors) for module in modules),
        templates=tuple(module.template for module in modules),
    )
    for layer, (all_A, all_B_T) in zip(layers, stack.blocks, strict=True):
        for i, module in enumerate(modules):
            if layer.path in module.factors:
                A, B = module.factors[layer.path]
                all_A[i, : module.rank] = A
                all_B_T[i, : module.rank] = B.T
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
