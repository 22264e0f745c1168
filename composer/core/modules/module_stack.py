"""N LoRA modules as one stack of tensors, layer by layer.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

`read_module` reads the files of one module, and `stack_modules` makes the stack. The files come from
strangers, so they are read here key by key, and only factors are accepted. peft would load every key
of the file, the base model's own weights included.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
# Fields of adapter_config.json that can change the arithmetic, or that can mean that peft rewrote the base
# model's weights before the training, each with the values at which they do neither.
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
    """One module as read from its files.

    Attributes:
        name: for messages and reports.
        rank: r, the same in every layer.
        scaling: what multiplies B @ A: alpha / r, or alpha / √r with rsLoRA.
        factors: A (r, d_in) and B (d_out, r), both fp32, by the path of the layer.
        template: of the prompts that the module was trained with; None if unknown.
    """

    name: str
    rank: int
    scaling: float
    factors: Mapping[str, tuple[Tensor, Tensor]]
    template: str | None = None


@dataclass(frozen=True)
class Layer:
    """A linear layer that at least one module changes; its frozen weight is (d_out, d_in)."""

    path: str
    d_out: int
    d_in: int


@dataclass(frozen=True, eq=False)
class FactorPair:
    """The factors of one layer in fp32; in bf16 they are made once, for all candidates of a search.

    Attributes:
        A: (R, d_in).
        B: (d_out, R).
    """

    A: Tensor
    B: Tensor

    def in_type(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return A and B in fp32 or bf16."""
        return (self.A, self.B) if dtype == self.A.dtype else self._in_bf16

    @cached_property
    def _in_bf16(self) -> tuple[Tensor, Tensor]:
        return self.A.bfloat16(), self.B.bfloat16()


@dataclass(frozen=True)
class ModuleStack:
    """N modules in one pair of tensors per layer, so that composing is one product per layer.

    Zeros fill the rows beyond a module's own rank, and the layers that a module does not change. They
    change no delta. B is stored transposed: then the factors of one module and the concatenation of all
    modules are both views of the same memory. For hundreds of modules that memory is gigabytes.

    A subset keeps the layers and the rank of the stack it was taken from.

    Attributes:
        names: N names.
        layers: L layers, sorted by path: every layer that a module of the whole stack changes.
        rank: the rank of every block: the largest rank of the modules of the whole stack.
        ranks: N ranks as stored in the files.
        scalings: (N,) fp32, what multiplies B @ A.
        blocks: L pairs of A (N, rank, d_in) and Bᵀ (N, rank, d_out), fp32.
        targets: N sets of layer paths.
        templates: N templates of the modules' own prompts; None for the base model's own.
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
        """Return N, the number of modules."""
        return len(self.names)

    @property
    def usual_rank(self) -> int:
        """Return the rank that most modules have, the first one of equally frequent ranks.

        The LoRA baseline is trained at this rank. The largest rank would often be that of an outlier, such
        as an adapter that was itself composed from many modules.
        """
        return Counter(self.ranks).most_common(1)[0][0]

    @property
    def largest_rank(self) -> int:
        """Return the largest rank of these modules; `rank` may be that of a module that is not among them."""
        return max(self.ranks)

    def largest_alike(self) -> list[int]:
        """Return the indices of the largest group of modules that agree in rank, layers and scaling."""
        shapes = list(zip(self.ranks, self.targets, self.scalings.tolist(), strict=True))
        ((common, _),) = Counter(shapes).most_common(1)
        return [i for i, shape in enumerate(shapes) if shape == common]

    def factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (path, A (N, rank, d_in), B (N, d_out, rank)) of each layer, as views."""
        for layer, (A, B_T) in zip(self.layers, self.blocks, strict=True):
            yield layer.path, A, B_T.mT

    @cached_property
    def concatenated(self) -> tuple[FactorPair, ...]:
        """Return A (N * rank, d_in) and B (d_out, N * rank) of each layer, concatenated, as views."""
        return tuple(FactorPair(A.flatten(0, 1), B_T.flatten(0, 1).T) for A, B_T in self.blocks)

    def weighted_factors(self, weights: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (path, Σ wᵢAᵢ (P, rank, d_in), Σ wᵢBᵢ (P, d_out, rank)) of each layer.

        Args:
            weights: (P, N), on the device of the stack.
        """
        for layer, (A, B_T) in zip(self.layers, self.blocks, strict=True):
            summed_A = (weights @ A.flatten(1)).view(-1, *A.shape[1:])
            summed_B_T = (weights @ B_T.flatten(1)).view(-1, *B_T.shape[1:])
            yield layer.path, summed_A, summed_B_T.mT

    def holders(self) -> Tensor:
        """Return (L, N) booleans on the CPU: whether module i changes layer l."""
        return torch.tensor([[layer.path in own for own in self.targets] for layer in self.layers])

    def subset(self, indices: Sequence[int]) -> "ModuleStack":
        """Return the stack of these modules in this order, with the same L layers and the same rank.

        The blocks are copied, unless `indices` are all modules in their order.
        """
        chosen = list(indices)
        if chosen == list(range(len(self))):
            return self  # a copy would double the memory
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
        """Return the stack with its tensors in the memory of `device`."""
        moved = tuple((A.to(device), B_T.to(device)) for A, B_T in self.blocks)
        return replace(self, scalings=self.scalings.to(device), blocks=moved)


def read_module(folder: Path, name: str, template: str | None = None) -> LoraModule:
    """Read one plain peft LoRA adapter; of its weights file only the A and B factors are accepted.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        name: the name in messages and reports.
        template: of the prompts that the module was trained with; None if unknown.

    Raises:
        ModuleUnreadableError: the files are missing, damaged or not a plain LoRA adapter, or a value is
            not finite.
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
    """Return (rank, scaling) of a plain LoRA config.

    The scaling is alpha / r, or alpha / √r with rsLoRA (Kalajdzievski, arXiv:2312.03732).

    Raises:
        ModuleUnreadableError: the file is missing, is larger than CONFIG_SIZE_LIMIT bytes or is not a JSON
            object, or a field has a value that would change the arithmetic.
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
    """Return `rank`.

    Raises:
        ModuleUnreadableError: it is not a whole number from 1 to RANK_LIMIT.
    """
    if type(rank) is not int or not 1 <= rank <= RANK_LIMIT:
        raise ModuleUnreadableError(name, f"its rank must be a whole number from 1 to {RANK_LIMIT}")
    return rank


def positive_alpha(name: str, alpha: Any) -> float:
    """Return `alpha` as a float.

    Raises:
        ModuleUnreadableError: it is not a positive number below ALPHA_LIMIT.
    """
    if type(alpha) not in (int, float) or not 0 < alpha < ALPHA_LIMIT:
        raise ModuleUnreadableError(name, f"its lora_alpha must be a positive number below {ALPHA_LIMIT}")
    return float(alpha)


def checked_pair(name: str, path: str, rank: int, pair: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return A (rank, d_in) and B (d_out, rank) of one layer, both fp32.

    Raises:
        ModuleUnreadableError: a factor is missing, has another rank or is not floating point.
    """
    if pair.keys() != {"A", "B"}:
        raise ModuleUnreadableError(name, f"{path} has only one of its two factors")
    A, B = pair["A"], pair["B"]
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != rank or B.shape[1] != rank:
        raise ModuleUnreadableError(name, f"the factors of {path} do not have rank {rank}")
    if not (A.dtype.is_floating_point and B.dtype.is_floating_point):
        raise ModuleUnreadableError(name, f"the factors of {path} are not floating point numbers")
    return A.float(), B.float()


def require_finite(name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Refuse a module with a factor that holds NaN or infinity.

    Args:
        name: of the module.
        factors: A (r, d_in) and B (d_out, r) by the path of the layer.

    Raises:
        ModuleUnreadableError: names the first such layer.
    """
    # The minimum and maximum of a tensor with NaN are NaN. aminmax takes an eighth of the time of isfinite.
    extremes = [extreme for pair in factors.values() for factor in pair for extreme in torch.aminmax(factor)]
    finite = torch.stack(extremes).isfinite().view(len(factors), -1).all(1).tolist()
    for path, is_finite in zip(factors, finite, strict=True):
        if not is_finite:
            raise ModuleUnreadableError(name, f"{path} holds values that are not finite numbers")


def stack_modules(modules: Sequence[LoraModule]) -> ModuleStack:
    """Return the stack of N modules, in their order.

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
    """Return every layer that at least one module changes, sorted by path.

    Raises:
        MismatchedModulesError: a layer has another size in one module than in another.
    """
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
