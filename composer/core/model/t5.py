"""T5's loss over rows of tokens, with nothing padded: the fast path of scoring.

The modules are those of transformers, and so are the results; only the layout is another. The tokens of
n examples lie one after another, so that every linear layer is one product of as many rows as there are
tokens; attention alone looks at each example by itself. P candidates are P such blocks of rows.

What is added up from layer to layer, norms, attention and loss are fp32, whatever the products are.

Source: Raffel et al., arXiv:1910.10683, and T5ForConditionalGeneration of transformers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

IGNORED = -100  # a label that counts for no loss, as transformers writes it
FEW_ASK_MARGIN = 4
ROWS_IN_CACHE = 1024  # of a feed-forward's inner layer: 12 MB at flan-t5-large's 2816 in fp32

# These stay plain weights: cross attention multiplies by them head by head.
READ_AS_WEIGHTS = ("EncDecAttention.k", "EncDecAttention.v")


class Products(Protocol):
    """The linear layers of a frozen model with what P candidates add to them."""

    def product(self, module: nn.Module, x: Tensor) -> Tensor:
        """The layer's output with what they add, in fp32."""

    def adapts(self, module: nn.Module) -> bool:
        """Whether they add anything."""

    def delta(self, module: nn.Module, x: Tensor) -> Tensor:
        """What they add, (P, rows, d_out)."""


@dataclass(frozen=True)
class Run:
    """`count` examples of equal lengths, one behind another, from these rows on."""

    count: int
    source: int
    source_length: int
    target: int
    target_length: int


@dataclass(frozen=True)
class Rows:
    """n examples without padding, the short ones first.

    Attributes:
        order: (n,) which example of the batch stands where.
        source_ids, target_ids, labels: one number a token, T_source and T_target of them.
        example: (T_target,) the place in `order` of the example that a target token belongs to.
    """

    order: Tensor
    source_ids: Tensor
    target_ids: Tensor
    labels: Tensor
    example: Tensor
    runs: tuple[Run, ...]


def rows_of(inputs: Mapping[str, Tensor], labels: Tensor) -> Rows:
    """The rows of a padded batch: what attention_mask and IGNORED leave out is left out."""
    source, target = inputs["attention_mask"].bool(), labels != IGNORED
    lengths = list(zip(source.sum(-1).tolist(), target.sum(-1).tolist(), strict=True))
    order = torch.tensor(sorted(range(len(lengths)), key=lengths.__getitem__), device=labels.device)
    source, target = source[order], target[order]
    return Rows(
        order,
        inputs["input_ids"][order][source],
        inputs["decoder_input_ids"][order][target],
        labels[order][target],
        target.nonzero()[:, 0],
        tuple(runs_of(sorted(lengths))),
    )


def runs_of(lengths: Sequence[tuple[int, int]]) -> Iterator[Run]:
    """Neighbours of equal (source, target) lengths together."""
    source = target = 0
    for (source_length, target_length), equal in groupby(lengths):
        count = len(list(equal))
        yield Run(count, source, source_length, target, target_length)
        source, target = source + count * source_length, target + count * target_length


class T5Rows:
    """The loss of a frozen T5 on rows of tokens.

    Args:
        model: a T5ForConditionalGeneration.
        products: of every linear layer but the head.
        dtype: of what the products read.
    """

    def __init__(self, model: Any, products: Products, dtype: torch.dtype) -> None:
        self.model, self.products, self.dtype = model, products, dtype
        self.product = products.product
        # transformers writes this one out in five steps through memory
        fused = partial(nn.functional.gelu, approximate="tanh")
        own = model.encoder.block[0].layer[1].DenseReluDense.act
        self.act = fused if isinstance(own, NewGELUActivation) else own
        self.n_heads: int = model.config.num_heads
        self.source_bias = lru_cache(maxsize=8)(self._source_bias)
        self.target_bias = lru_cache(maxsize=8)(self._target_bias)

    def nats(self, rows: Rows, n_candidates: int) -> Tensor:
        """(P, n) of the examples in the order of the batch: summed over the label tokens."""
        logits = self.logits(rows, self.encoded(rows, n_candidates))
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1), rows.labels.repeat(n_candidates), reduction="none"
        ).view(n_candidates, -1)
        sums = nats.new_zeros(n_candidates, len(rows.order))
        return sums.index_add(1, rows.order[rows.example], nats)

    def encoded(self, rows: Rows, n_candidates: int) -> Tensor:
        """(P, T_source, d_model), ready to be multiplied."""
        encoder = self.model.encoder
        longest = max(run.source_length for run in rows.runs)
        biases = [self.source_bias(longest)[..., : r.source_length, : r.source_length] for r in rows.runs]
        spans = [(run.source, run.source_length) for run in rows.runs]
        x = self.embedded(rows.source_ids, n_candidates)
        for block in encoder.block:
            attention, feed_forward = block.layer
            x = self.self_attended(attention, x, rows.runs, spans, biases)
            x = self.fed_forward(feed_forward, x)
        return self.normed(encoder.final_layer_norm, x)

    def logits(self, rows: Rows, source: Tensor) -> Tensor:
        """(P, T_target, vocabulary) in fp32."""
        decoder, config = self.model.decoder, self.model.config
        longest = max(run.target_length for run in rows.runs)
        biases = [self.target_bias(longest)[..., : r.target_length, : r.target_length] for r in rows.runs]
        spans = [(run.target, run.target_length) for run in rows.runs]
        x = self.embedded(rows.target_ids, len(source))
        for block in decoder.block:
            attention, cross_attention, feed_forward = block.layer
            x = self.self_attended(attention, x, rows.runs, spans, biases)
            x = self.cross_attended(cross_attention, x, source, rows)
            x = self.fed_forward(feed_forward, x)
        x = rms_norm(decoder.final_layer_norm, x)
        if config.scale_decoder_outputs:
            x = x * config.d_model**-0.5
        logits: Tensor = self.model.lm_head(x)
        return logits

    # --- layers ---------------------------------------------------------------

    def embedded(self, ids: Tensor, n_candidates: int) -> Tensor:
        """(P, T, d_model), the same for every candidate."""
        x: Tensor = self.model.shared(ids)
        return x.expand(n_candidates, *x.shape)

    def normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        return rms_norm(norm, x).to(self.dtype)

    def self_attended(
        self,
        layer: Any,
        x: Tensor,
        runs: Sequence[Run],
        spans: Sequence[tuple[int, int]],
        biases: Sequence[Tensor],
    ) -> Tensor:
        attention, normed = layer.SelfAttention, self.normed(layer.layer_norm, x)
        q, k, v = (self.product(part, normed) for part in (attention.q, attention.k, attention.v))
        seen = [
            self.attended([self.heads(part, run.count, *span) for part in (q, k, v)], bias)
            for run, span, bias in zip(runs, spans, biases, strict=True)
        ]
        return x + self.product(attention.o, self.in_rows(seen, len(x)))

    def cross_attended(self, layer: Any, x: Tensor, source: Tensor, rows: Rows) -> Tensor:
        attention, normed = layer.EncDecAttention, self.normed(layer.layer_norm, x)
        q = self.product(attention.q, normed)
        if not self.products.adapts(attention.k) and self.few_ask(rows):
            seen = self.seen_by_few(attention, q, source, rows.runs)
        else:
            seen = self.seen(attention, q, source, rows.runs)
        return x + self.product(attention.o, seen)

    def seen(self, attention: Any, q: Tensor, source: Tensor, runs: Sequence[Run]) -> Tensor:
        """(P, T_target, inner): what the targets see of the source."""
        k, v = self.product(attention.k, source), self.product(attention.v, source)
        seen = [
            self.attended(
                [
                    self.heads(q, run.count, run.target, run.target_length),
                    self.heads(k, run.count, run.source, run.source_length),
                    self.heads(v, run.count, run.source, run.source_length),
                ],
                None,
            )
            for run in runs
        ]
        return self.in_rows(seen, len(q))

    def seen_by_few(self, attention: Any, q: Tensor, source: Tensor, runs: Sequence[Run]) -> Tensor:
        """The same where few targets ask: q (W_k h) = (q W_k) h, so that no key or value is ever made.

        A head's query goes through the keys' weight once and then meets the source itself; what it saw
        of the source goes through the values' weight.
        """
        n_candidates, n_heads = len(q), self.n_heads
        W_k, W_v = (part.weight.view(n_heads, -1, source.shape[-1]) for part in (attention.k, attention.v))
        asked = by_head(
            q.view(-1, n_heads, W_k.shape[1]).to(self.dtype), W_k
        )  # (P * T_target, heads, d_model)
        asked = asked.view(n_candidates, -1, *asked.shape[1:])
        parts = []
        for run in runs:
            size = n_candidates * run.count
            h = source[:, run.source : run.source + run.count * run.source_length].float()
            h = h.reshape(size, run.source_length, -1)
            own = asked[:, run.target : run.target + run.count * run.target_length].float()
            shares = (own.reshape(size, -1, h.shape[-1]) @ h.mT).softmax(-1)
            parts.append((shares @ h).view(n_candidates, -1, *own.shape[2:]))
        met = torch.cat(parts, 1).to(self.dtype)  # (P, T_target, heads, d_model)
        seen = by_head(met.flatten(0, 1), W_v.mT).reshape(q.shape)
        if self.products.adapts(attention.v):
            every = self.products.delta(
                attention.v, met.flatten(1, 2)
            )  # of each head's rows, all heads' values
            every = every.view(*met.shape[:3], n_heads, -1)
            seen = seen + every.diagonal(dim1=2, dim2=3).mT.reshape(q.shape)
        return seen.to(self.dtype)

    def few_ask(self, rows: Rows) -> bool:
        """Whether taking the queries to the source is less work than making keys and values of it all.

        By numbers multiplied, with a margin because the way there is made of smaller products.
        """
        d_model, inner = self.model.config.d_model, self.n_heads * self.model.config.d_kv
        pairs = sum(run.count * run.target_length * run.source_length for run in rows.runs)
        few = len(rows.target_ids) * inner * d_model + pairs * self.n_heads * d_model
        return bool(FEW_ASK_MARGIN * few < len(rows.source_ids) * inner * d_model)

    def fed_forward(self, layer: Any, x: Tensor) -> Tensor:
        dense, normed = layer.DenseReluDense, self.normed(layer.layer_norm, x)
        inner = self.gated if hasattr(dense, "wi_0") else self.activated
        if any(self.products.adapts(part) for part in dense.children() if isinstance(part, nn.Linear)):
            return x + self.product(dense.wo, inner(dense, normed))
        # a few candidates at a time, so that what lies between the products stays in the cache
        parts = torch.split(normed, max(1, ROWS_IN_CACHE // x.shape[1]))
        return x + torch.cat([self.product(dense.wo, inner(dense, part)) for part in parts])

    def gated(self, dense: Any, x: Tensor) -> Tensor:
        inner = self.act(self.product(dense.wi_0, x)) * self.product(dense.wi_1, x)
        return inner.to(self.dtype)

    def activated(self, dense: Any, x: Tensor) -> Tensor:
        return self.act(self.product(dense.wi, x)).to(self.dtype)

    # --- attention ------------------------------------------------------------

    def heads(self, rows: Tensor, count: int, start: int, length: int) -> Tensor:
        """(P, T, heads * d) -> (P * count, heads, length, d) of the examples from row `start` on."""
        part = rows[:, start : start + count * length]
        return part.reshape(len(rows) * count, length, self.n_heads, -1).transpose(1, 2)

    def in_rows(self, seen: Sequence[Tensor], n_candidates: int) -> Tensor:
        """(P, T, heads * d), ready to be multiplied, of the runs' (P * count, heads, length, d)."""
        parts = [
            part.transpose(1, 2).flatten(2).reshape(n_candidates, -1, part.shape[1] * part.shape[3])
            for part in seen
        ]
        return torch.cat(parts, 1).to(self.dtype)

    def attended(self, heads: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        """Attention of q, k and v; T5 does not scale the scores."""
        q, k, v = heads
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    def _source_bias(self, length: int) -> Tensor:
        """(1, heads, length, length), what every encoder layer adds to its scores."""
        attention = self.model.encoder.block[0].layer[0].SelfAttention
        bias: Tensor = attention.compute_bias(length, length)
        return bias.detach().contiguous()

    def _target_bias(self, length: int) -> Tensor:
        """The decoder's, with -inf where a token would see one that comes later."""
        attention = self.model.decoder.block[0].layer[0].SelfAttention
        bias: Tensor = attention.compute_bias(length, length)
        later = torch.ones(length, length, dtype=torch.bool, device=bias.device).triu(1)
        return bias.detach().masked_fill(later, -torch.inf).contiguous()


def by_head(rows: Tensor, weights: Tensor) -> Tensor:
    """rows (T, heads, d) by weights (heads, d, e) -> (T, heads, e)."""
    return (rows.transpose(0, 1) @ weights).transpose(0, 1)


def rms_norm(norm: Any, x: Tensor) -> Tensor:
    return nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
