"""Losses of candidates on the examples, and LoraHub's objective.

Every figure comes from one table: the cross entropy (P, n) in nats of each example under each
candidate, summed over the example's label tokens.

Letters of shapes: P candidates, N modules, n examples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from composer.core.methods.base import Adapters, Method, single_modules
from composer.core.model.base_model import FrozenBaseModel, TokenBatch
from composer.core.model.gradient import nats_and_gradient
from composer.core.modules.module_stack import ModuleStack
from composer.core.spec.choices import LORAHUB_PENALTY

# Called as soon as some rows of a table are scored, with their numbers and the rows (len(numbers), n).
OnBlock = Callable[[Sequence[int], Tensor], None]


class FewShotScorer:
    """Scores candidates on the same few examples, and counts the work.

    Attributes:
        base: the frozen model.
        batch: the n examples.
        label_tokens: (n,) label tokens of each example.
        candidates_scored: how many candidates were scored so far.
        gradient_steps: how many gradient steps were taken so far, one per candidate and step.
    """

    def __init__(self, base: FrozenBaseModel, batch: TokenBatch) -> None:
        """Take the model and the examples; both counters start at zero."""
        self.base = base
        self.batch = batch
        self.label_tokens = batch.label_tokens
        self.candidates_scored = 0
        self.gradient_steps = 0

    def nats(self, method: Method, weights: Tensor) -> Tensor:
        """Return (P, n) nats of weights (P, n_weights), without gradients."""
        return self._in_blocks(len(weights), lambda block: method.adapters(weights[block]))

    def nats_of_singles(self, stack: ModuleStack, on_block: OnBlock = lambda rows, nats: None) -> Tensor:
        """Return (N, n) nats of every module alone at weight 1, with prompts in the module's own template.

        Args:
            stack: N modules.
            on_block: called with the numbers of some modules and their rows as soon as they are scored.
        """
        nats = torch.empty(len(stack), len(self.batch))
        for template in dict.fromkeys(stack.templates):
            own = [i for i, other in enumerate(stack.templates) if other == template]
            nats[own] = self._nats_alone(stack, own, template, on_block)
        return nats

    def nats_of_parts(self, stack: ModuleStack) -> Tensor:
        """Return (N, n) nats of every module alone at weight 1, with the prompts of the composition."""
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
        """Return (1, n) nats of one candidate."""
        return self._in_blocks(1, lambda _block: adapters)

    def nats_of_base(self) -> Tensor:
        """Return (1, n) nats of the base model alone."""
        return self._in_blocks(1, lambda _block: {})

    def loss_with_gradient(
        self, method: Method, weights: Tensor, example_mask: Tensor | None = None
    ) -> Tensor:
        """Return losses (P,) in nats per label token, differentiable in the weights.

        Counts P gradient steps.

        Args:
            method: turns the weights into candidates.
            weights: (P, n_weights).
            example_mask: (P, n) train mask of 0 and 1; all examples count if None.
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
        size = self.base.candidates_at_once(batch)
        starts = range(0, n_candidates, size)
        blocks = [slice(start, min(start + size, n_candidates)) for start in starts]
        rows = []
        for block in blocks:
            rows.append(self.base.token_nats(batch, adapters(block), block.stop - block.start))
            on_block(block, rows[-1])
        return torch.cat(rows)


class _Loss(torch.autograd.Function):
    """Computes the gradient together with the loss, and keeps only the gradient (P, n_weights)."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, scorer: FewShotScorer, method: Method, example_mask: Tensor
    ) -> Tensor:
        nats, (gradient,) = nats_and_gradient(
            scorer.base, scorer.batch, [weights], lambda own: method.adapters(own[0]), example_mask
        )
        ctx.save_for_backward(gradient)
        return token_mean(nats, scorer.label_tokens, example_mask)

    @staticmethod
    def backward(ctx: Any, *of_losses: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_losses[0].unsqueeze(-1) * gradient, None, None, None


def token_mean(nats: Tensor, label_tokens: Tensor, example_mask: Tensor | None = None) -> Tensor:
    """Return the cross entropy per label token over the examples, (P,) in nats per label token.

    Args:
        nats: (P, n), or (n,) for a scalar result, summed over each example's label tokens.
        label_tokens: (n,).
        example_mask: (P, n) or (n,) of 0 and 1; an example at 0 does not count. All count if None.
    """
    if example_mask is None:
        example_mask = torch.ones_like(label_tokens)
    return (nats * example_mask).sum(-1) / (label_tokens * example_mask).sum(-1)


def lorahub_loss(nats: Tensor, label_tokens: Tensor, batch_size: int | None = None) -> Tensor:
    """Return LoraHub's loss (P,): the sum of the token means of all batches, divided by n.

    With one batch of five examples it is a fifth of the cross entropy, so another batch size is another
    objective.

    Args:
        nats: (P, n), summed over each example's label tokens.
        label_tokens: (n,).
        batch_size: examples in one batch; None for all n.

    Source: the code released with LoraHub, arXiv:2307.13269.
    """
    n = len(label_tokens)
    size = batch_size or n
    batches = [slice(start, start + size) for start in range(0, n, size)]
    return torch.stack([token_mean(nats[:, b], label_tokens[b]) for b in batches]).sum(0) / n


def mean_size(weights: Tensor) -> Tensor:
    """Return mean|w| of each candidate: (P, n_weights) -> (P,)."""
    return weights.abs().mean(-1)


def lorahub_objective(
    scorer: FewShotScorer, method: Method, weights: Sequence[float], batch_size: int | None = None
) -> float:
    """Return what the released LoraHub minimizes, in nats, for one candidate (N,).

    It is `lorahub_loss` plus LORAHUB_PENALTY times mean|w|.

    Source: Huang et al., LoraHub, arXiv:2307.13269, eq. 2, and the code released with it.
    """
    w = torch.tensor([weights], dtype=torch.float32)
    loss = lorahub_loss(scorer.nats(method, w), scorer.label_tokens, batch_size)
    return float(loss + LORAHUB_PENALTY * mean_size(w))
