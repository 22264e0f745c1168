"""Products with frozen weights in oneDNN's packed layout.

A run multiplies by a linear layer of the base model thousands of times, and the weight never changes.
oneDNN can store it in the blocks that its kernels read. Packed, a bf16 product of 535 rows took 2.5 ms;
plain bf16 took 3.0 ms and fp32 5.6 ms (1024 x 2816, one Zen 4 core). On a Zen 3 core, which has AVX2 alone, a
packed fp32 product of 45 rows took 0.8 of the time of a plain one, and one of 720 rows 1.07. `pack_linear`
and `round_linear` change a module of the model in place.
"""

import time
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from composer.core.model.page_cache import release_pages

Linear = nn.Linear | Conv1D
MEASURED_ROWS, MEASURED_WIDTH, MEASURED_TIMES = 128, 1024, 5
BF16_GAIN = 1.2  # from which on bf16 is worth its rounding


class PackedProduct:
    """x Wᵀ + b with W (d_out, d_in) packed: rows x (…, d_in) -> (…, d_out).

    It multiplies in `dtype` and returns fp32. The gradient flows to x; W is frozen and gets none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        """Pack a weight (d_out, d_in) and its bias (d_out,), both converted to `dtype`."""
        self.dtype = dtype
        self.packed = pack_weight(weight.to(dtype))
        self.bias = None if bias is None else bias.to(dtype)
        self._transposed: Tensor | None = None  # packed at the first backward pass

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product of x (…, d_in) as (…, d_out) in fp32, differentiable in x."""
        result: Tensor = _Product.apply(x.to(self.dtype), self)  # type: ignore[no-untyped-call]  # torch's own
        return result.float()

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of x (…, d_in) as (…, d_out), both in `dtype`."""
        return linear_output(x, self.packed, self.bias)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient in x (…, d_in) from the gradient in the output (…, d_out), both in `dtype`."""
        if self._transposed is None:
            self._transposed = pack_weight(self.packed.to_dense().T.contiguous())
        return linear_output(gradient, self._transposed, None)


class _Product(torch.autograd.Function):
    """The product for autograd; it keeps only the PackedProduct for the backward pass, and no activations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: PackedProduct) -> Tensor:
        ctx.product = product
        return product.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.product.backward(gradients[0]), None


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether this torch has oneDNN's packed products of this type for the device."""
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's own
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        # with AVX2 alone, oneDNN packs no bf16 weights
        and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )


def pack_weight(weight: Tensor) -> Tensor:
    """Return W (d_out, d_in) in the layout of oneDNN's kernels."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return laid_out


@cache
def bf16_gain() -> float:
    """Return how many times as fast as fp32 products this processor computes bf16 products.

    Packed where that is possible, as for a run; the fastest of several, in turn, in the seconds that the
    process computed, so that other processes change it little. It takes some 20 ms, once in a process.
    """
    x, weight = torch.ones(MEASURED_ROWS, MEASURED_WIDTH), torch.ones(MEASURED_WIDTH, MEASURED_WIDTH)
    seconds: dict[torch.dtype, list[float]] = {}
    for dtype in MEASURED_TIMES * (torch.float32, torch.bfloat16):
        seconds.setdefault(dtype, []).append(_seconds_of_product(x.to(dtype), weight.to(dtype)))
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


def _seconds_of_product(x: Tensor, weight: Tensor) -> float:
    if can_pack(x.device, x.dtype):
        multiply = partial(linear_output, x, pack_weight(weight), None)
    else:
        multiply = partial(nn.functional.linear, x, weight)
    started = time.process_time()
    multiply()
    return time.process_time() - started


def linear_output(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x Wᵀ + b for x (…, d_in) and a packed weight W (d_out, d_in), as (…, d_out)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return result


def pack_linear(module: Linear, dtype: torch.dtype) -> None:
    """Make a linear layer multiply by its packed weight, and free its plain weight.

    A placeholder of NaN with the weight's shape takes the place of the plain weight. It needs no memory,
    and any other use of it gives NaN instead of a silently wrong result.
    """
    weight = module.weight.T.contiguous() if isinstance(module, Conv1D) else module.weight
    product = PackedProduct(weight.detach(), getattr(module, "bias", None), dtype)
    release_pages(module.weight)
    stand_in = torch.full((1, 1), torch.nan).expand(module.weight.shape)
    module.weight = nn.Parameter(stand_in, requires_grad=False)
    module.forward = product  # type: ignore[method-assign,assignment]


def round_linear(module: Linear, dtype: torch.dtype) -> None:
    """Make a linear layer multiply in `dtype` by its plain weight, and return fp32."""
    if module.weight.dtype == dtype:
        return
    for name, parameter in list(module.named_parameters(recurse=False)):
        # a new parameter, as embeddings may share the old one and must stay fp32
        setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
        release_pages(parameter)
    module.forward = partial(_run_in, module.forward, dtype)  # type: ignore[method-assign,assignment]


def _run_in(forward: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    result: Tensor = forward(x.to(dtype))
    return result.float()
