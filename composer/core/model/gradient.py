"""The loss of P candidates with its gradient, a block at a time, so that a large base fits in memory.

What a backward pass needs is kept from layer to layer: at flan-t5-large's size about 1.4 MB a token, so
four gigabytes for five fits of five examples. A candidate's loss depends on no other candidate, and is a
sum over examples, so blocks of both change nothing but the memory.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from composer.core.methods.base import Adapters
from composer.core.model.base_model import FrozenBaseModel, TokenBatch

KEPT_BYTES = 2_000_000_000  # of one block
KEPT_NUMBERS = 16  # fp32, for each token, layer and number of the hidden state; 14 at flan-t5-large's size


def loss_and_gradient(
    base: FrozenBaseModel,
    batch: TokenBatch,
    parameters: Sequence[Tensor],
    adapters: Callable[[Sequence[Tensor]], Adapters],
    example_mask: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """The token mean of P candidates and its gradient in their parameters.

    Args:
        parameters: each (P, …), a row for a candidate.
        adapters: of some candidates' rows of all parameters.
        example_mask: (P, n) of 0 and 1; those at 0 do not count.

    Returns:
        (P,) in nats per label token, and as many gradients as parameters, each of the same shape.
    """
    losses = torch.zeros(len(example_mask))
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    n_tokens = (batch.label_tokens * example_mask).sum(-1)
    for rows, examples in blocks(base, batch, len(example_mask)):
        own = [parameter[rows].detach().requires_grad_() for parameter in parameters]
        part = batch if examples == slice(0, len(batch)) else batch.part(examples)
        with torch.enable_grad():
            nats = base.token_nats(part, adapters(own), rows.stop - rows.start)
            loss = (nats * example_mask[rows, examples]).sum(-1) / n_tokens[rows]
            slopes = torch.autograd.grad(loss.sum(), own)
        losses[rows] += loss.detach()
        for gradient, slope in zip(gradients, slopes, strict=True):
            gradient[rows] += slope
    return losses, gradients


def blocks(base: FrozenBaseModel, batch: TokenBatch, n_candidates: int) -> Iterator[tuple[slice, slice]]:
    """(candidates, examples) of each block: several candidates with all examples, or one with some."""
    pairs = max(1, int(KEPT_BYTES / kept_bytes(base, batch)))
    for rows in slices(n_candidates, max(1, pairs // len(batch))):
        for examples in slices(len(batch), pairs):
            yield rows, examples


def kept_bytes(base: FrozenBaseModel, batch: TokenBatch) -> float:
    """About how much one candidate and one example of the batch need for a backward pass."""
    config = base.model.config
    tokens = sum(ids.shape[1] for name, ids in batch.inputs.items() if name.endswith("input_ids"))
    return 4.0 * KEPT_NUMBERS * tokens * int(config.hidden_size) * int(config.num_hidden_layers)


def slices(n: int, size: int) -> list[slice]:
    """0 to n in parts of this size at most, as equal as they can be."""
    parts = -(-n // size)
    bounds = [n * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
