"""N LoRA modules as one stack of tensors, layer by layer.

Convention, as in peft: A is (r, d_in), B is (d_out, r), and a layer adds
(alpha / r) * B @ A to its frozen weight of shape (d_out, d_in).

`read_module` reads the files of one module, and `stack_modules` makes the stack. The files come from
strangers, so they are read here key by key, and only factors are accepted. peft would load every key
of the file, the base model's own weights included.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import pad

from composer.core.spec.errors import (
    MismatchedModulesError,
    ModuleNotComposableError,
    ModuleUnfitError,
    ModuleUnreadableError,
    NoModulesError,
)
from modules_registry.core.adapter_config import ANY_BASE, read_config
from modules_registry.core.adapter_file import open_weights, read_header
from modules_registry.core.base_weights import BaseWeights, read_base
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, BaseModelRefusal, GateRefusal
from modules_registry.core.gate import AdapterDescription, copy_test, describe_adapter


@dataclass(frozen=True)
class LoraModule:
    """One module as read from its files.

    Attributes:
        name: for messages and reports.
        rank: r, of the layer with the largest one; the others are filled up with zeros.
        scaling: what multiplies B @ A: alpha / r, or alpha / √r with rsLoRA.
        factors: A (r, d_in) and B (d_out, r), both fp32, by the path of the layer.
        template: of the prompts that the module was trained with; None if unknown.
        has_own_ranks: whether layers had ranks or scalings of their own; then only whole updates are summed.
        repairs: what was read otherwise than it is written in the files, in sentences.
    """

    name: str
    rank: int
    scaling: float
    factors: Mapping[str, tuple[Tensor, Tensor]]
    template: str | None = None
    has_own_ranks: bool = False
    repairs: tuple[str, ...] = ()


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
        own_ranks: for each module whether its layers had ranks or scalings of their own.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    rank: int
    ranks: tuple[int, ...]
    scalings: Tensor
    blocks: tuple[tuple[Tensor, Tensor], ...]
    targets: tuple[frozenset[str], ...]
    templates: tuple[str | None, ...]
    own_ranks: tuple[bool, ...]

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
        shapes = list(zip(self.own_ranks, self.ranks, self.targets, self.scalings.tolist(), strict=True))
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
            own_ranks=tuple(self.own_ranks[i] for i in chosen),
        )

    def to(self, device: torch.device) -> "ModuleStack":
        """Return the stack with its tensors in the memory of `device`."""
        moved = tuple((A.to(device), B_T.to(device)) for A, B_T in self.blocks)
        return replace(self, scalings=self.scalings.to(device), blocks=moved)


def base_weights_in(folder: Path) -> BaseWeights | None:
    """Return a base's own weights; None where its files are not whole, which loading the base tells."""
    with suppress(BaseModelRefusal):
        return read_base(folder)[1]
    return None


def read_module(
    folder: Path, name: str, template: str | None = None, *, base_weights: BaseWeights | None = None
) -> LoraModule:
    """Read one peft LoRA adapter by the same rules as the registry's gate; only its factors are loaded.

    A layer with a rank or an alpha of its own is brought to the rank of the largest layer with zeros, and to
    the scaling of the others with its B: its delta stays the same.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        name: the name in messages and reports.
        template: of the prompts that the module was trained with; None if unknown.
        base_weights: of the base it will be used on: copies of them are left out. Without these a copy is
            refused, and always what differs from the base's own.

    Raises:
        ModuleUnreadableError: a file is missing; as a ModuleUnfitError: they are damaged or not a LoRA
            adapter, or a value is not finite; as a ModuleNotComposableError: it is a DoRA.
    """
    described = describe_module(folder, name, base_weights)
    if described.not_composable:
        why = described.not_composable.rstrip(".")
        raise ModuleNotComposableError(name, why[:1].lower() + why[1:])
    rank = max(layer.rank for layer in described.layers)
    scaling = described.config.scaling
    factors = {}
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            for layer in described.layers:
                tensors = described.tensors[layer.path]
                A, B = file.get_tensor(tensors.a.name).float(), file.get_tensor(tensors.b.name).float()
                own = layer.scaling / scaling
                missing = rank - layer.rank
                factors[layer.path] = (
                    pad(A, (0, 0, 0, missing)) if missing else A,
                    pad(B if own == 1 else own * B, (0, missing)) if missing or own != 1 else B,
                )
    except (SafetensorError, OSError) as error:
        raise ModuleUnreadableError(name, f"its {WEIGHTS_FILE} is missing or damaged") from error
    require_finite(name, factors)
    repairs = tuple(repair.sentence for repair in described.repairs)
    return LoraModule(name, rank, scaling, factors, template, described.has_own_ranks, repairs)


def describe_module(folder: Path, name: str, base_weights: BaseWeights | None = None) -> AdapterDescription:
    """Return what the config and the header of the weights say, after the registry's rules.

    A file may be a link, as in the cache of a Hub's client.

    Raises:
        ModuleUnreadableError: they refuse one of the two files.
    """
    try:
        config = read_config((folder / CONFIG_FILE).resolve(), ANY_BASE)
        with open_weights((folder / WEIGHTS_FILE).resolve()) as file:
            header = read_header(file)
            is_copy = copy_test(base_weights, file, header)
            paths = base_weights.paths if base_weights is not None else None
            return describe_adapter(config, header, is_copy=is_copy, base_paths=paths)
    except GateRefusal as refusal:
        kind = ModuleUnreadableError if refusal.code == "not_a_file" else ModuleUnfitError
        raise kind(name, f"{refusal.file}: {refusal.message.rstrip('.')}") from refusal


def repair_texts(modules: Iterable[LoraModule]) -> list[str]:
    """Return what was repaired of these modules, in sentences with their names."""
    return [f"{module.name}: {sentence}" for module in modules for sentence in module.repairs]


def require_finite(name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Refuse a module with a factor that holds NaN or infinity.

    Args:
        name: of the module.
        factors: A (r, d_in) and B (d_out, r) by the path of the layer.

    Raises:
        ModuleUnfitError: names the first such layer.
    """
    # The minimum and maximum of a tensor with NaN are NaN. aminmax takes an eighth of the time of isfinite.
    extremes = [extreme for pair in factors.values() for factor in pair for extreme in torch.aminmax(factor)]
    finite = torch.stack(extremes).isfinite().view(len(factors), -1).all(1).tolist()
    for path, is_finite in zip(factors, finite, strict=True):
        if not is_finite:
            raise ModuleUnfitError(name, f"{path} holds values that are not finite numbers")


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
        own_ranks=tuple(module.has_own_ranks for module in modules),
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
