"""One search as the job asks for it: its objective and its optimizer.

`Fitting.find` runs the search. The searches themselves are in the other files of this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.base import Method
from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, lorahub_loss, mean_size, token_mean
from composer.core.search.adam import ParallelFits, Variant, adam_steps, fit_weights, rate_for
from composer.core.search.gauss_newton import DEFAULTS, planned_steps, search_gauss_newton
from composer.core.search.greedy import search_greedy
from composer.core.search.journal import Journal, SearchResult
from composer.core.search.lbfgs import fit_lbfgs, rounded_size
from composer.core.search.nevergrad_search import search_nevergrad
from composer.core.spec import choices
from composer.core.spec.errors import StopSearch
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import JobSpec
from composer.core.spec.metrics import is_exact_match, longest_useful_answer

SPARSE_PENALTY = DEFAULTS.penalty  # nats per unit of mean|w|; the same as in Gauss-Newton's fits
TIE_BREAK = 0.01  # the most that the loss adds to the share of wrong answers; one of 64 is 0.0156

VARIANTS: dict[str, tuple[Variant, str]] = {
    "adam": ("dense", "Adam"),
    "adam-sparse": ("sparse", "Adam with a proximal step"),
    "adam-positive": ("positive", "Adam, weights kept at or above zero"),
}
SOFTMAX = "cat"  # its weights are logits, not coefficients, so they have no penalty
KEEPS_SINGLES = ("exact", "svd", "lorahub", "linear")  # one module at weight 1 gives its own delta


@dataclass(frozen=True)
class WeightSearch:
    """The search of one job over the weights of one method.

    Attributes:
        job: the request.
        scorer: of the n examples.
        method: the method, on N modules.
        examples: the n examples as texts.
        alone: (N,) few-shot loss of each module alone, in nats per label token; may be empty for a search
            that does not read it.
        nothing: the few-shot loss of the base model alone, in nats per label token.
    """

    job: JobSpec
    scorer: FewShotScorer
    method: Method
    examples: Sequence[Example]
    alone: Sequence[float]
    nothing: float

    def find(self, journal: Journal) -> SearchResult:
        """Run the search; StopSearch from a callback ends it with the best step so far.

        Returns:
            Weights (n_weights,), the steps and the optimizer.

        Raises:
            NonFiniteLossError: no step had a finite loss.
            InvalidJobError: the journal's record is of another search, or nevergrad has no such optimizer.
            SearchBrokeError: the optimizer of nevergrad failed.
        """
        try:
            return self._find(journal)
        except StopSearch:
            return journal.finish_early(f"{self.search}, stopped")

    @property
    def search(self) -> str:
        """Return the name of the search: one of choices.SEARCHES, or `nevergrad:` and a name."""
        return choices.search_of(self.method.name, self.job.search)

    def planned_steps(self) -> int:
        """Estimate how many steps the search will note in its journal."""
        job, search = self.job, self.search
        if search == "gauss-newton":
            return planned_steps(
                job.budget,
                len(self.examples),
                len(self.method.stack),
                by_layer=isinstance(self.method, Auto),
            )
        if search in choices.GRADIENT_SEARCHES:
            return adam_steps(job.budget)
        return job.budget if search != "greedy" else 1

    def values(self, weights: Tensor) -> Tensor:
        """Return the objective (P,) of weights (P, n_weights).

        For `loss`: the few-shot loss in nats per label token plus 0.05 · mean|w|. cat has no penalty, and
        lorahub has `lorahub_loss` in place of the few-shot loss. For `exact_match`: the share of wrong
        answers to the examples, 0 to 1, plus at most 0.01 that grows with the loss and decides between equal
        shares.

        nevergrad's optimizers minimize exactly this. Adam and L-BFGS minimize it for `loss` with the plain
        few-shot loss, adam-sparse and Gauss-Newton with a larger penalty, and greedy search without
        one.

        Source: Huang et al., LoraHub, arXiv:2307.13269, eq. 2.
        """
        loss = self.losses(weights) + self._pull(weights)
        if self.job.objective == "loss":
            return loss
        return self._share_wrong(weights) + TIE_BREAK * torch.nan_to_num(loss / (1 + loss), nan=1.0)

    def losses(self, weights: Tensor) -> Tensor:
        """Return the few-shot losses (P,) of weights (P, n_weights), without a penalty.

        They are in nats per label token; for lorahub they are `lorahub_loss`.
        """
        nats = self.scorer.nats(self.method, weights)
        if self.method.name == "lorahub":
            return lorahub_loss(nats, self.scorer.label_tokens, self.job.batch_size)
        return token_mean(nats, self.scorer.label_tokens)

    def _pull(self, weights: Tensor) -> Tensor:
        """Return the penalties (P,) of weights (P, n_weights)."""
        return self.penalty * mean_size(weights)

    @property
    def penalty(self) -> float:
        """Return nats per unit of mean|w|; 0 for cat, whose weights are logits."""
        return 0.0 if self.method.name == SOFTMAX else choices.LORAHUB_PENALTY

    # --- the searches ---------------------------------------------------------

    def _find(self, journal: Journal) -> SearchResult:
        job, search = self.job, self.search
        if search == "gauss-newton" and isinstance(self.method, Auto | ExactSum):
            return search_gauss_newton(
                self.scorer,
                self.method,
                journal,
                single_losses=self.alone,
                base_loss=self.nothing,
                budget=job.budget,
            )
        if search in VARIANTS:
            return self._by_adam(journal, *VARIANTS[search])
        if search == "lbfgs":
            return self._by_lbfgs(journal)
        if search == "greedy":
            return self._by_greedy(journal)
        is_loss = job.objective == "loss"  # then the penalty is added to what the journal notes
        score = self.losses if is_loss else self.values
        return search_nevergrad(
            lambda tried: score(torch.tensor(tried, dtype=torch.float32)).tolist(),
            self.method.n_weights,
            journal,
            penalized=self._with_penalty if is_loss else lambda weights, loss: loss,
            optimizer=choices.OPTIMIZER_OF_SEARCH.get(search) or search.removeprefix(choices.NEVERGRAD),
            budget=job.budget,
            bound=self.method.bound,
            seed=job.seed,
        )

    def _with_penalty(self, weights: Sequence[float], loss: float) -> float:
        """Return the loss of one candidate with its penalty, rounded to fp32 as `values` does."""
        tried = torch.tensor([weights], dtype=torch.float32)
        return float(torch.tensor([loss], dtype=torch.float32) + self._pull(tried))

    def _by_adam(self, journal: Journal, variant: Variant, optimizer: str) -> SearchResult:
        """Run one Adam fit from the method's own start, on all examples."""
        start = self.method.start.float().unsqueeze(0)
        penalty = SPARSE_PENALTY if variant == "sparse" else self.penalty
        steps = adam_steps(self.job.budget)
        weights = fit_weights(
            self._loss_with_gradient,
            ParallelFits(start, torch.ones_like(start), torch.tensor([penalty])),
            steps=steps,
            bound=self.method.bound,
            learning_rate=rate_for(steps),
            on_weights=lambda w, losses: journal.note(w[0].tolist(), float(losses[0])),
            variant=variant,
            journal=journal,
            name="weights",
        )
        return journal.finish(weights[0].tolist(), optimizer)

    def _by_lbfgs(self, journal: Journal) -> SearchResult:
        def evaluate(point: Tensor) -> tuple[float, Tensor]:
            weights = point.float().unsqueeze(0).requires_grad_(True)
            value = self._loss_with_gradient(weights).sum() + self.penalty * rounded_size(weights).sum()
            (gradient,) = torch.autograd.grad(value, weights)
            return value.item(), torch.nan_to_num(gradient[0], 0.0, 0.0, 0.0)

        weights = fit_lbfgs(
            evaluate,
            self.method.start.float(),
            evaluations=adam_steps(self.job.budget),
            bound=self.method.bound,
            journal=journal,
            penalty=lambda weights: self.penalty * float(rounded_size(weights.unsqueeze(0))),
        )
        return journal.finish(weights.tolist(), "L-BFGS")

    def _by_greedy(self, journal: Journal) -> SearchResult:
        """Run greedy search, by the loss without penalty or by the answers."""
        base_loss, single_losses, budget = self.nothing, self.alone, self.job.budget
        if self.job.objective != "loss" or self.method.name not in KEEPS_SINGLES:
            n = self.method.n_weights
            first = self._without_pull(torch.cat([torch.zeros(1, n), torch.eye(n)])).tolist()
            base_loss, single_losses, budget = first[0], first[1:], max(1, budget - len(first))
        return search_greedy(
            self._without_pull, single_losses, base_loss=base_loss, budget=budget, journal=journal
        )

    def _without_pull(self, weights: Tensor) -> Tensor:
        """Return the objective (P,) as `values`, but for the loss without the penalty."""
        if self.job.objective != "loss":
            return self.values(weights)
        return token_mean(self.scorer.nats(self.method, weights), self.scorer.label_tokens)

    def _loss_with_gradient(self, weights: Tensor) -> Tensor:
        return self.scorer.loss_with_gradient(self.method, weights)

    def _share_wrong(self, weights: Tensor) -> Tensor:
        """Return the share of wrong greedy answers to the examples, (P,) from 0 to 1."""
        base: FrozenBaseModel = self.scorer.base
        prompts = [base.prompt(example.input) for example in self.examples]
        length = longest_useful_answer(self.examples, self.job.max_new_tokens)
        answers = base.answers(prompts, length, self.method.adapters(weights), len(weights))
        wrong = [
            [
                not is_exact_match(answer, example.output)
                for answer, example in zip(own, self.examples, strict=True)
            ]
            for own in answers
        ]
        return torch.tensor(wrong, dtype=torch.float32).mean(-1)
