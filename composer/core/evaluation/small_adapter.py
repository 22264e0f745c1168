"""The smallest adapter that answers as the composition does.

The exact sum of several modules has the sum of their ranks. Most of its energy is often in a few
directions, and servers take only some ranks: vLLM's `--max-lora-rank` 8, 16, 32, 64 and more.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from composer.core.methods.base import PlainLora, as_adapters
from composer.core.methods.svd import singular_parts, truncate_factors
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer
from composer.core.spec.examples import Example
from composer.core.spec.metrics import longest_useful_answer

SMALL_RANKS = (8, 16, 32, 64)  # that a composition is cut to, if the cut changes nothing
ENERGY_KEPT = 0.999  # share of the squared Frobenius norm of the deltas, summed over the layers
CUT_NATS = 0.01  # per label token; the most that the loss of any example may change by a cut


def make_small(lora: PlainLora, holds: Callable[[PlainLora], bool]) -> PlainLora:
    """Return the adapter without layers that add nothing, cut to the first of SMALL_RANKS that holds.

    A cut holds if it keeps ENERGY_KEPT of the energy and `holds` says so. If no cut below the adapter's own
    rank holds, the adapter keeps its rank.

    Args:
        lora: the whole composition.
        holds: whether a cut adapter does what the whole one does.
    """
    lora = without_idle_layers(lora)
    parts = None
    for rank in SMALL_RANKS:
        if rank >= lora.rank:
            break
        parts = parts or list(singular_parts(lora))
        cut = truncate_factors(iter(parts), rank)
        cut = replace(cut, energy_kept=cut.energy_kept * lora.energy_kept)
        if cut.energy_kept >= ENERGY_KEPT * lora.energy_kept and holds(cut):
            return cut
    return lora


def without_idle_layers(lora: PlainLora) -> PlainLora:
    """Return the adapter without the layers whose delta is zero; the first one stays if all are zero."""
    used = {path: pair for path, pair in lora.factors.items() if all(factor.any() for factor in pair)}
    return replace(lora, factors=used or dict(list(lora.factors.items())[:1]))


class AnswersKept:
    """Whether a cut adapter gives the examples the losses and the answers of the whole one."""

    def __init__(
        self, scorer: FewShotScorer, examples: tuple[Example, ...], max_new_tokens: int, whole: PlainLora
    ) -> None:
        """Take the whole adapter; it is scored when the first cut is.

        Args:
            scorer: of the n examples.
            examples: the n examples as texts.
            max_new_tokens: the most tokens of one answer.
            whole: the composition before the cut.
        """
        self._scorer, self._whole = scorer, whole
        base: FrozenBaseModel = scorer.base
        self._prompts = [base.prompt(example.input) for example in examples]
        self._max_new_tokens = longest_useful_answer(examples, max_new_tokens)
        self._expected: tuple[Tensor, list[str]] | None = None

    def __call__(self, cut: PlainLora) -> bool:
        """Return whether each loss changes by at most CUT_NATS per label token, and no answer changes."""
        if self._expected is None:
            self._expected = self._losses(self._whole), self._answers(self._whole)
        losses, answers = self._expected
        change = (self._losses(cut) - losses).abs()
        return bool((change <= CUT_NATS).all()) and self._answers(cut) == answers

    def _losses(self, lora: PlainLora) -> Tensor:
        """Return (n,) losses in nats per label token."""
        return self._scorer.nats_of(as_adapters(lora))[0] / self._scorer.label_tokens

    def _answers(self, lora: PlainLora) -> list[str]:
        base: FrozenBaseModel = self._scorer.base
        (answers,) = base.answers(self._prompts, self._max_new_tokens, as_adapters(lora))
        return list(answers)
