"""The loss of P candidates and its gradient, computed in blocks so that a large base fits in memory.

A backward pass keeps the activations of every layer: about 1.4 MB per token for flan-t5-large, so
4 GB for five fits of five examples. The loss of a candidate depends on no other candidate and is a sum
over examples. So blocks of candidates and of examples change the memory, not the result.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from composer.core.methods.base import Adapters
from composer.core.model.base_model import FrozenBaseModel, TokenBatch

KEPT_BYTES = 2_000_000_000  # that the backward pass of one block may keep
KEPT_NUMBERS = 16  # fp32 numbers kept per token, layer and hidden dimension; measured 14 for flan-t5-large


def nats_and_gradient(
    base: FrozenBaseModel,
    batch: TokenBatch,
    parameters: Sequence[Tensor],
    adapters: Callable[[Sequence[Tensor]], Adapters],
    example_mask: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of P candidates on every example, and the gradient of its token mean.

    Args:
        base: the frozen model.
        batch: n examples.
        parameters: each (P, …), one row per candidate.
        adapters: makes the candidates of some rows from those rows of all parameters.
        example_mask: (P, n) train mask of 0 and 1; an example at 0 does not count for that candidate.

    Returns:
        The cross entropy (P, n) in nats, summed over each example's label tokens, also of examples at 0; and
        one gradient per parameter, each of its parameter's shape, of the mean per label token over the
        examples at 1.
    """
    all_nats = torch.zeros(example_mask.shape)
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    n_tokens = (batch.label_tokens * example_mask).sum(-1)
    for rows, examples in blocks(base, batch, len(example_mask)):
        own = [parameter[rows].detach().requires_grad_() for parameter in parameters]
        part = batch if examples == slice(0, len(batch)) else batch.part(examples)
        with torch.enable_grad():
            nats = base.token_nats(part, adapters(own), rows.stop - rows.start)
            loss = (nats * example_mask[rows, examples]).sum(-1) / n_tokens[rows]
            slopes = torch.autograd.grad(loss.sum(), own)
        all_nats[rows, examples] = nats.detach()
        for gradient, slope in zip(gradients, slopes, strict=True):
            gradient[rows] += slope
    return all_nats, gradients


def blocks(base: FrozenBaseModel, batch: TokenBatch, n_candidates: int) -> Iterator[tuple[slice, slice]]:
    """Yield (candidates, examples) of each block, as slices of P and of n.

    A block has several candidates and all examples, or one candidate and some examples.
    """
    pairs = max(1, int(KEPT_BYTES / kept_bytes(base, batch)))
    for rows in slices(n_candidates, max(1, pairs // len(batch))):
        for examples in slices(len(batch), pairs):
            yield rows, examples


def kept_bytes(base: FrozenBaseModel, batch: TokenBatch) -> float:
    """Estimate the bytes that a backward pass keeps for one candidate on one example of the batch."""
    config = base.model.config
    tokens = sum(ids.shape[1] for name, ids in batch.inputs.items() if name.endswith("input_ids"))
    return 4.0 * KEPT_NUMBERS * tokens * int(config.hidden_size) * int(config.num_hidden_layers)


def slices(n: int, size: int) -> list[slice]:
    """Return slices that cover 0 to n, each of at most `size`, in parts as equal as possible."""
    parts = -(-n // size)
    bounds = [n * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
