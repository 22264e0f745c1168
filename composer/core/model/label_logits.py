"""The logits at the label positions, of which only the columns that matter are kept.

Letters of shapes: P candidates, n examples, T label tokens of all examples together, K columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.methods.base import Method
from composer.core.model.base_model import TokenBatch
from composer.core.model.scorer import FewShotScorer
from composer.core.model.t5 import IGNORED

LARGEST = 30  # columns of each row, besides those of label tokens
MOST_LABELS = 100  # label tokens that are columns of every row, the most frequent ones
# The rest's logit is at most so far below the row's log-sum: a probability of 4e-18, whatever the vocabulary.
REST_BELOW = 40.0


@dataclass(frozen=True)
class LabelColumns:
    """The columns of each of T rows of logits that are kept, and one more for the rest together.

    The rest's column is the log-sum of all other logits, so a softmax over the K columns gives the exact
    probability of every column that is kept.

    Attributes:
        tokens: (T, K - 1) token ids.
        labels: (T,) the column of the label token of each row.
        examples: (T,) the example of each row, 0 to n - 1.
    """

    tokens: Tensor
    labels: Tensor
    examples: Tensor

    @classmethod
    def largest_of(cls, logits: Tensor, labels: Tensor, examples: Tensor) -> "LabelColumns":
        """Choose the columns: the LARGEST of each row, its own label token and the most frequent ones.

        Args:
            logits: (T, vocabulary), of the base model alone.
            labels: (T,) token ids.
            examples: (T,).
        """
        distinct, counts = torch.unique(labels, return_counts=True)
        frequent = distinct[counts.argsort(descending=True, stable=True)[:MOST_LABELS]]
        ranked = logits.clone()
        ranked[:, frequent] = torch.inf
        ranked[torch.arange(len(labels)), labels] = torch.inf
        count = min(LARGEST + len(frequent) + 1, logits.shape[-1])
        tokens = ranked.topk(count).indices.sort(-1).values
        return cls(tokens, (tokens == labels.unsqueeze(-1)).long().argmax(-1), examples)

    def narrow(self, logits: Tensor) -> Tensor:
        """Return (P, T, K) of logits (P, T, vocabulary); the last column is the rest's."""
        tokens = self.tokens.expand(len(logits), -1, -1)
        lowest = logits.logsumexp(-1, keepdim=True) - REST_BELOW
        rest = logits.scatter(-1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([logits.gather(-1, tokens), torch.maximum(rest, lowest)], dim=-1)

    def token_nats(self, logits: Tensor) -> Tensor:
        """Return the cross entropy (…, T) of each label token, in nats, for logits (…, T, K)."""
        own = logits[..., torch.arange(len(self.labels)), self.labels]
        return logits.logsumexp(-1) - own


class LabelLogits:
    """Scores candidates by the logits at the label positions of the same few examples.

    Attributes:
        columns: which logits are kept.
        at_base: (T, K) logits of the base model alone.
    """

    def __init__(self, scorer: FewShotScorer) -> None:
        """Score the base model alone, which counts as one candidate, and choose the columns."""
        self._scorer = scorer
        scorer.candidates_scored += 1
        with torch.no_grad():
            logits, examples = scorer.base.label_logits(scorer.batch, {})
        whole = logits.cpu()
        self.columns = LabelColumns.largest_of(whole[0], label_tokens(scorer.batch, examples), examples)
        self.at_base = self.columns.narrow(whole)[0]
        self._block = scorer.base.candidates_at_once(scorer.batch)

    @torch.no_grad()
    def of(self, method: Method, weights: Tensor) -> Tensor:
        """Return logits (P, T, K), fp32 on the CPU, of the candidates with weights (P, n_weights)."""
        scorer = self._scorer
        scorer.candidates_scored += len(weights)
        narrow = []
        for block in torch.split(weights.float(), self._block):
            whole, _ = scorer.base.label_logits(scorer.batch, method.adapters(block), len(block))
            narrow.append(self.columns.narrow(whole.cpu()))
        return torch.cat(narrow)


def label_tokens(batch: TokenBatch, examples: Tensor) -> Tensor:
    """Return (T,) the label tokens of the examples, on the CPU.

    Args:
        batch: n examples.
        examples: (T,) the example of each label token; those of one example are neighbors.
    """
    order = list(dict.fromkeys(examples.tolist()))
    labels = batch.labels.cpu()[order]
    return labels[labels != IGNORED]
