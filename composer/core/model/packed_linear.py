"""Products with frozen weights, laid out once for the processor's own matrix routines.

A linear layer of a base model is multiplied thousands of times and never changes. oneDNN can lay its
weight out in the blocks that its kernels read; packed so, a bf16 product of 535 rows took 2.5 ms where
the plain one took 3.0 and the fp32 one 5.6 (1024 x 2816, one Zen 4 core).
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from composer.core.model.page_cache import release_pages

Linear = nn.Linear | Conv1D


class PackedProduct:
    """x Wᵀ + b for rows of x (…, d_in), W (d_out, d_in) in packed form; in fp32, whatever is multiplied in.

    The gradient runs through to x; W is frozen and gets none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.packed = pack_weight(weight.to(dtype))
        self.bias = None if bias is None else bias.to(dtype)
        self._transposed: Tensor | None = None  # laid out when the first gradient asks for it

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = _Product.apply(x.to(self.dtype), self)  # type: ignore[no-untyped-call]  # torch's own
        return result.float()

    def forward(self, x: Tensor) -> Tensor:
        return multiplied(x, self.packed, self.bias)

    def backward(self, gradient: Tensor) -> Tensor:
        """(…, d_out) -> (…, d_in)."""
        if self._transposed is None:
            self._transposed = pack_weight(self.packed.to_dense().T.contiguous())
        return multiplied(gradient, self._transposed, None)


class _Product(torch.autograd.Function):
    """Keeps nothing for the backward pass but which product it was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: PackedProduct) -> Tensor:
        ctx.product = product
        return product.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.product.backward(gradients[0]), None


def can_pack(device: torch.device) -> bool:
    """Whether this torch brings oneDNN's packed products, for that device."""
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's own
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def pack_weight(weight: Tensor) -> Tensor:
    """W (d_out, d_in) in the layout of oneDNN's kernels."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return laid_out


def multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return result


def pack_linear(module: Linear, dtype: torch.dtype) -> None:
    """Let a linear layer multiply by its packed weight, and let go of the plain one.

    What stands in its place has the shape and takes no memory; whoever computes with it gets NaN.
    """
    weight = module.weight.T.contiguous() if isinstance(module, Conv1D) else module.weight
    product = PackedProduct(weight.detach(), getattr(module, "bias", None), dtype)
    release_pages(module.weight)
    stand_in = torch.full((1, 1), torch.nan).expand(module.weight.shape)
    module.weight = nn.Parameter(stand_in, requires_grad=False)
    module.forward = product  # type: ignore[method-assign,assignment]


def round_linear(module: Linear, dtype: torch.dtype) -> None:
    """Let a linear layer multiply by its weight in `dtype`, plain as it is."""
    if module.weight.dtype == dtype:
        return
    for name, parameter in list(module.named_parameters(recurse=False)):
        # a new parameter: the embeddings, where they are the same one, stay as they are
        setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
        release_pages(parameter)
    module.forward = partial(_rounded, module.forward, dtype)  # type: ignore[method-assign,assignment]


def _rounded(forward: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    result: Tensor = forward(x.to(dtype))
    return result.float()
