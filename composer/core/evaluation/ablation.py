"""Ablation: the few-shot loss of the composition without each of its modules."""

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

MEASURED_MAX = PUBLISHED_BUDGET  # modules with the largest coefficients; LoraHub's own budget


def ablation_losses(
    scorer: FewShotScorer,
    method: Method,
    weights: Sequence[float],
    *,
    rank_max: int | None,
    composed_loss: float,
) -> list[float | None]:
    """Return (N,) few-shot losses, in nats per label token, each with one module's weight at zero.

    The weight is zero in every layer, and the other modules keep theirs. Nothing is fitted again, so of two
    modules that can replace each other both look dispensable.

    Args:
        scorer: of the examples.
        method: on N modules.
        weights: (n_weights,) of the composition.
        rank_max: the rank to which the composition was cut; then each of these adapters is cut too. None if
            it was not cut.
        composed_loss: the few-shot loss of the composition; so is the loss without a module of weight zero.

    Returns:
        None for a module that is not among the MEASURED_MAX with the largest coefficients, and for a loss of
        NaN or infinity.
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
    """Return (N,): the size of each module's largest coefficient over the layers.

    A mean over the layers could hide coefficients of opposite signs.
    """
    by_layer = method.by_layer(weights)
    coefficients = torch.tensor([method.by_module(weights)]) if by_layer is None else by_layer
    return coefficients.abs().amax(0)


def adapters_without(method: Method, weights: Sequence[float], module: int, rank_max: int | None) -> Adapters:
    """Return the one candidate (P = 1) that is the composition without the module at index `module`.

    Args:
        method: on N modules.
        weights: (n_weights,) of the composition.
        module: the index of the module.
        rank_max: the rank to which the candidate is cut; None for no cut.
    """
    if isinstance(method, LayerwiseSoftmax):  # no finite logit gives a coefficient of zero
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
    """Return the adapter cut to `rank`, or unchanged if its rank is not higher."""
    return truncate_rank(lora, rank) if rank < lora.rank else lora
