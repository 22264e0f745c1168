"""What each module contributes: the few-shot loss of the composition without it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, Method, PlainLora, as_adapters
from composer.core.methods.exact import concatenate_modules, sum_adapters
from composer.core.methods.layerwise import LayerwiseSoftmax
from composer.core.methods.svd import truncate_rank
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.spec.choices import PUBLISHED_BUDGET

MEASURED_MAX = PUBLISHED_BUDGET  # the heaviest; as many candidates as LoraHub's own search scores


def ablation_losses(
    scorer: FewShotScorer,
    method: Method,
    weights: Sequence[float],
    *,
    rank_max: int | None,
    composed_loss: float,
) -> list[float | None]:
    """(N,) nats per token with a module's weight at zero in every layer and the others' as they are.

    Nothing is fitted again, so two modules that can stand in for each other both look dispensable.

    Args:
        rank_max: the rank that the composition was cut to; what is left is then cut as well.
        composed_loss: the loss of the composition, which a module without weight does not change.

    Returns:
        None for a module beyond the MEASURED_MAX heaviest, and where the loss is not a number.
    """
    sizes = heaviest_coefficients(method, weights)
    order = sizes.argsort(descending=True, stable=True).tolist()
    losses: list[float | None] = [None if size else composed_loss for size in sizes.tolist()]
    for i in order[:MEASURED_MAX]:
        if sizes[i]:
            nats = scorer.nats_of(adapters_without(method, weights, i, rank_max))
            loss = float(token_mean(nats, scorer.label_tokens))
            losses[i] = loss if math.isfinite(loss) else None
    return losses


def heaviest_coefficients(method: Method, weights: Sequence[float]) -> Tensor:
    """(N,) the size of each module's largest coefficient; a mean over layers may hide weights that cancel."""
    by_layer = method.by_layer(weights)
    coefficients = torch.tensor([method.by_module(weights)]) if by_layer is None else by_layer
    return coefficients.abs().amax(0)


def adapters_without(method: Method, weights: Sequence[float], module: int, rank_max: int | None) -> Adapters:
    """One candidate: the composition without that module."""
    if isinstance(method, LayerwiseSoftmax):  # no logit stands for a share of zero
        shares = method.by_layer(weights)
        shares[:, module] = 0
        if rank_max is None:
            return sum_adapters(method.stack, shares.float().unsqueeze(0))
        return as_adapters(limit_rank(concatenate_modules(method.stack, shares), rank_max))
    left = torch.tensor(list(weights)).view(-1, len(method.stack))  # a row, or a row for each layer
    left[:, module] = 0
    if rank_max is None:
        return method.adapters(left.view(1, -1))
    return as_adapters(limit_rank(method.lora(left.flatten().tolist()), rank_max))


def limit_rank(lora: PlainLora, rank: int) -> PlainLora:
    """An adapter of at most that rank."""
    return truncate_rank(lora, rank) if rank < lora.rank else lora
