"""Each shot under what the very same choice and search make of the other shots.

A verdict without held-out examples rests on it, so nothing that a shot is judged by may have seen it:
neither the fit of the weights nor the choice of the modules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.registry import make_method
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack
from composer.core.search.bagging import DEFAULTS, fold_masks
from composer.core.search.dispatch import WeightSearch
from composer.core.search.journal import Journal
from composer.core.selection.screening import Screening
from composer.core.spec.job_spec import JobSpec


@dataclass(frozen=True)
class CrossValidation:
    """What it takes to make a composition again without some of its shots.

    Attributes:
        scorer: of all shots; whatever is spent here is counted there.
        stack: every module that could be chosen.
        choose: the indices of those that are chosen by these shots, given by their numbers.
    """

    job: JobSpec
    scorer: FewShotScorer
    stack: ModuleStack
    screening: Screening
    choose: Callable[[Sequence[int]], tuple[int, ...]]

    def folds(self) -> list[tuple[list[int], list[int]]]:
        """(seen, hidden) numbers of the shots, as the default's own fits have them."""
        return [
            (train_mask.nonzero().flatten().tolist(), (1 - train_mask).nonzero().flatten().tolist())
            for train_mask in fold_masks(len(self.scorer.batch), DEFAULTS.n_folds)
        ]

    def single_module_nats(self) -> Tensor:
        """(n,) nats of each shot under the module that is best alone, of those chosen, on the others."""
        nats = torch.empty(len(self.scorer.batch))
        for train, left_out in self.folds():
            chosen = self.choose(train)
            losses = self.screening.losses(chosen, numbers=train)
            best = chosen[losses.index(min(losses))]
            nats[left_out] = self.screening.nats([best])[0, left_out]
        return nats

    def composition_nats(self, found: Sequence[float] | None, kept: tuple[int, ...]) -> Tensor:
        """(n,) nats of each shot under a composition that was made without it.

        Args:
            found: what the search found of it by the way, with the modules `kept`; it holds wherever the
                other shots alone would have chosen the same modules.
        """
        nats = torch.empty(len(self.scorer.batch))
        for train, left_out in self.folds():
            chosen = self.choose(train)
            if found is not None and chosen == kept:
                nats[left_out] = torch.tensor(found)[left_out]
            else:
                nats[left_out] = self._refit_nats(chosen, train, left_out)
        return nats

    def _refit_nats(self, chosen: tuple[int, ...], train: Sequence[int], left_out: Sequence[int]) -> Tensor:
        """(len(hidden),) nats under the same search over these modules and shots."""
        examples = self.scorer.batch.examples
        base, stack = self.scorer.base, self.stack.subset(chosen)
        own = FewShotScorer(base, base.encode([examples[i] for i in train]))
        other = FewShotScorer(base, base.encode([examples[i] for i in left_out]))
        method = make_method(self.job.method, stack, seed=self.job.seed)
        search = WeightSearch(
            self.job,
            own,
            method,
            [examples[i] for i in train],
            losses_of_parts(own, stack, self.job.template, self.screening.losses(chosen, numbers=train)),
            float(token_mean(own.nats_of_base(), own.label_tokens)),
        )
        weights = torch.tensor([search.find(Journal(lambda step: None)).weights])
        nats = other.nats(method, weights)[0]
        self.scorer.candidates_scored += own.candidates_scored + other.candidates_scored
        self.scorer.gradient_steps += own.gradient_steps
        return nats


def losses_of_parts(
    scorer: FewShotScorer, stack: ModuleStack, template: str, single_losses: Sequence[float]
) -> list[float]:
    """Nats per token of each module alone as a part of a composition, where a search begins.

    `single_losses` is what they have in their own templates; in another than the composition's it says
    nothing.
    """
    if all(own in (None, template) for own in stack.templates):
        return list(single_losses)
    losses: list[float] = token_mean(scorer.nats_of_parts(stack), scorer.label_tokens).tolist()
    return losses
