"""Cross-validation: each example under a choice of modules and a search that did not see it.

Without held-out examples the verdict uses these left-out losses. So neither the fit of the weights nor
the choice of modules may have seen the example that they are measured on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.registry import make_method
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack
from composer.core.search.dispatch import WeightSearch
from composer.core.search.folds import fold_masks
from composer.core.search.journal import Journal
from composer.core.selection.screening import Screening
from composer.core.spec.job_spec import JobSpec


@dataclass(frozen=True)
class CrossValidation:
    """Makes the composition again without one fold of the examples at a time.

    Attributes:
        job: the request.
        scorer: of all n examples; the work done here counts there.
        stack: every module that could be chosen.
        screening: the losses of these modules alone.
        choose: returns the indices of the modules that are chosen by the examples with these numbers.
    """

    job: JobSpec
    scorer: FewShotScorer
    stack: ModuleStack
    screening: Screening
    choose: Callable[[Sequence[int]], tuple[int, ...]]

    def folds(self) -> list[tuple[list[int], list[int]]]:
        """Return (seen, hidden) numbers of the examples for each fold, the same folds as in the search."""
        return [
            (train_mask.nonzero().flatten().tolist(), (1 - train_mask).nonzero().flatten().tolist())
            for train_mask in fold_masks(len(self.scorer.batch))
        ]

    def single_module_nats(self) -> Tensor:
        """Return (n,) nats of each example under the best single module by the other folds; n at least 2.

        The nats are summed over the example's label tokens. The best single module is taken from the modules
        that the other folds choose.
        """
        nats = torch.empty(len(self.scorer.batch))
        for train, left_out in self.folds():
            chosen = self.choose(train)
            losses = self.screening.losses(chosen, numbers=train)
            best = chosen[losses.index(min(losses))]
            nats[left_out] = self.screening.nats([best])[0, left_out]
        return nats

    def composition_nats(self, found: Sequence[float] | None, kept: tuple[int, ...]) -> Tensor:
        """Return (n,) nats of each example under a composition made from the other folds; n at least 2.

        The nats are summed over the example's label tokens.

        Args:
            found: (n,) nats that the search itself found with the modules `kept`; None if it found none. They
                are taken for a fold if the other folds choose the same modules, else the search runs again.
            kept: the indices of the modules of the composition.
        """
        nats = torch.empty(len(self.scorer.batch))
        for train, left_out in self.folds():
            chosen = self.choose(train)
            if found is not None and chosen == kept:
                nats[left_out] = torch.tensor(found)[left_out]
            else:
                nats[left_out] = self._refit_nats(chosen, train, left_out)
        return nats

    def chooses_alike(self, kept: tuple[int, ...]) -> bool:
        """Return whether the other folds choose the modules `kept` for every fold."""
        return len(self.scorer.batch) > 1 and all(self.choose(train) == kept for train, _ in self.folds())

    def _refit_nats(self, chosen: tuple[int, ...], train: Sequence[int], left_out: Sequence[int]) -> Tensor:
        """Return (len(hidden),) nats of the hidden examples, after the same search on the seen ones."""
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
    """Return (N,) few-shot losses of each module alone in the composition's template.

    They are in nats per label token, and a search starts from them. Modules are scored only if one of
    them has another template of its own.

    Args:
        scorer: of the examples.
        stack: N modules.
        template: of the composition.
        single_losses: (N,) few-shot losses of each module alone in its own template, in nats per label token.
    """
    if all(own in (None, template) for own in stack.templates):
        return list(single_losses)
    losses: list[float] = token_mean(scorer.nats_of_parts(stack), scorer.label_tokens).tolist()
    return losses
