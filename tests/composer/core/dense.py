"""Updates as whole matrices, the slow and obvious way."""

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import PlainLora
from composer.core.modules.module_stack import LoraModule

D_OUT, D_IN = 5, 4


def random_module(
    seed: int, *, rank: int = 2, alpha: float = 4.0, paths: Sequence[str] = ("a.q", "a.v")
) -> LoraModule:
    """A module of layers of 5 x 4."""
    generator = torch.Generator().manual_seed(seed)
    factors = {
        path: (torch.randn(rank, D_IN, generator=generator), torch.randn(D_OUT, rank, generator=generator))
        for path in paths
    }
    return LoraModule(f"m{seed}", rank, alpha / rank, factors)


def delta_of_module(lora: LoraModule, path: str) -> Tensor:
    """What one module adds to one layer."""
    if path not in lora.factors:
        return torch.zeros(D_OUT, D_IN)
    A, B = lora.factors[path]
    return lora.scaling * B @ A


def delta_of_adapter(lora: PlainLora, path: str) -> Tensor:
    """What a composed adapter adds to one layer."""
    A, B = lora.factors[path]
    return lora.alpha / lora.rank * B @ A
