"""What a search lowers: the few-shot loss and a pull toward small weights.

Everything is derived from one table, the cross entropy in nats of each example under
each candidate (P, n), summed over the example's label tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, Method, single_modules
from composer.core.model.base_model import ROWS_AT_ONCE, FrozenBaseModel, TokenBatch
from composer.core.model.gradient import loss_and_gradient
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.choices import LORAHUB_PENALTY

# Told of rows of a table as soon as they are scored: their numbers, and the rows (block, n).
OnBlock = Callable[[Sequence[int], Tensor], None]


class FewShotScorer:
    """Scores candidates of one method on the same few examples, and counts what it did."""

    def __init__(self, base: FrozenBaseModel, batch: TokenBatch) -> None:
        self.base = base
        self.batch = batch
        self.label_tokens = batch.label_tokens
        self.candidates_scored = 0
        self.gradient_steps = 0

    def nats(self, method: Method, weights: Tensor) -> Tensor:
        """(P, n) of weights (P, N), without gradients."""
        return self._in_blocks(len(weights), lambda block: method.adapters(weights[block]))

    def nats_of_singles(self, stack: ModuleStack, on_block: OnBlock = lambda rows, nats: None) -> Tensor:
        """(N, n): every module alone at weight 1, with prompts in its own template."""
        nats = torch.empty(len(stack), len(self.batch))
        for template in dict.fromkeys(stack.templates):
            own = [i for i, other in enumerate(stack.templates) if other == template]
            nats[own] = self._nats_alone(stack, own, template, on_block)
        return nats

    def nats_of_parts(self, stack: ModuleStack) -> Tensor:
        """(N, n): every module alone at weight 1, with the composition's prompts, whatever its own."""
        return self._nats_alone(stack, range(len(stack)), None)

    def _nats_alone(
        self,
        stack: ModuleStack,
        indices: Sequence[int],
        template: str | None,
        on_block: OnBlock = lambda rows, nats: None,
    ) -> Tensor:
        batch = self.base.encode(self.batch.examples, template) if template else self.batch
        return self._in_blocks(
            len(indices),
            lambda block: single_modules(stack, indices[block]),
            batch,
            lambda block, nats: on_block(indices[block], nats),
        )

    def nats_of(self, adapters: Adapters) -> Tensor:
        """(1, n) of one candidate."""
        return self._in_blocks(1, lambda _block: adapters)

    def nats_of_base(self) -> Tensor:
        """(1, n): the base model without any module."""
        return self._in_blocks(1, lambda _block: {})

    def loss_with_gradient(
        self, method: Method, weights: Tensor, example_mask: Tensor | None = None
    ) -> Tensor:
        """(P,) nats per label token of weights (P, n_weights), to be differentiated.

        `example_mask` as in `token_mean`. P gradient steps are counted.
        """
        self.gradient_steps += len(weights)
        if example_mask is None:
            example_mask = torch.ones(len(weights), len(self.batch))
        loss: Tensor = _Loss.apply(weights, self, method, example_mask)  # type: ignore[no-untyped-call]  # torch's own
        return loss

    @torch.no_grad()
    def _in_blocks(
        self,
        n_candidates: int,
        adapters: Callable[[slice], Adapters],
        batch: TokenBatch | None = None,
        on_block: Callable[[slice, Tensor], None] = lambda block, nats: None,
    ) -> Tensor:
        self.candidates_scored += n_candidates
        batch = self.batch if batch is None else batch
        size = max(1, ROWS_AT_ONCE // len(batch))
        starts = range(0, n_candidates, size)
        blocks = [slice(start, min(start + size, n_candidates)) for start in starts]
        rows = []
        for block in blocks:
            rows.append(self.base.token_nats(batch, adapters(block), block.stop - block.start))
            on_block(block, rows[-1])
        return torch.cat(rows)


class _Loss(torch.autograd.Function):
    """Makes the gradient along with the loss, and keeps nothing else."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, scorer: FewShotScorer, method: Method, example_mask: Tensor
    ) -> Tensor:
        losses, (gradient,) = loss_and_gradient(
            scorer.base, scorer.batch, [weights], lambda own: method.adapters(own[0]), example_mask
        )
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *of_losses: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_losses[0].unsqueeze(-1) * gradient, None, None, None


def token_mean(nats: Tensor, label_tokens: Tensor, example_mask: Tensor | None = None) -> Tensor:
    """Cross entropy per label token over the examples, (P,) in nats.

    `example_mask` (P, n) or (n,) of 0 and 1 leaves examples out; all count if None.
    """
    if example_mask is None:
        example_mask = torch.ones_like(label_tokens)
    return (nats * example_mask).sum(-1) / (label_tokens * example_mask).sum(-1)


def lorahub_loss(nats: Tensor, label_tokens: Tensor, batch_size: int | None = None) -> Tensor:
    """Σ over batches of the token mean, divided by the number of examples; (P,).

    So with everything in one batch of five it is a fifth of the cross entropy, and another
    batch size is another objective.

    Source: the code released with LoraHub, arXiv:2307.13269.
    """
    n = len(label_tokens)
    size = batch_size or n
    batches = [slice(start, start + size) for start in range(0, n, size)]
    return torch.stack([token_mean(nats[:, b], label_tokens[b]) for b in batches]).sum(0) / n


def mean_size(weights: Tensor) -> Tensor:
    """mean|w| of each candidate: (P, N) -> (P,)."""
    return weights.abs().mean(-1)


def lorahub_objective(
    scorer: FewShotScorer, method: Method, weights: Sequence[float], batch_size: int | None = None
) -> float:
    """What the released LoraHub minimises, for one candidate (N,)."""
    w = torch.tensor([weights], dtype=torch.float32)
    loss = lorahub_loss(scorer.nats(method, w), scorer.label_tokens, batch_size)
    return float(loss + LORAHUB_PENALTY * mean_size(w))
