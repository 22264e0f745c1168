"""T5's loss on rows of tokens without padding: the fast way to score a T5.

The modules are those of transformers, and the results are equal; only the layout differs. The tokens of
n examples form one sequence of rows, so a linear layer is one product with as many rows as there are
tokens. Only the attention handles each example by itself. P candidates are P such blocks of rows.

The residual stream, the norms, the attention and the loss are fp32, whatever the type of the products.

Letters of shapes: P candidates, n examples, T tokens of all examples together (T_source in the encoder,
T_target in the decoder), d numbers per head.

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

IGNORED = -100  # a label that is not scored, as in transformers
FEW_ASK_MARGIN = 4
ROWS_IN_CACHE = 1024  # of a feed-forward's inner layer: 12 MB in fp32 with flan-t5-large's d_ff of 2816

# These weights are not packed: cross_attention_few_targets multiplies by them head by head.
READ_AS_WEIGHTS = ("EncDecAttention.k", "EncDecAttention.v")


class Products(Protocol):
    """The linear layers of a frozen model, with the deltas of P candidates."""

    def product(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return the layer's output (P, rows, d_out) for x (P, rows, d_in), deltas included, in fp32."""

    def adapts(self, module: nn.Module) -> bool:
        """Return whether the candidates have a delta in this layer."""

    def delta(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return only the deltas' part of the output, (P, rows, d_out), for x with P * rows rows."""


@dataclass(frozen=True)
class Run:
    """`count` neighbouring examples with equal lengths.

    Attributes:
        count: how many examples.
        source: the first source row of the run.
        source_length: source tokens of each example.
        target: the first target row of the run.
        target_length: target tokens of each example.
    """

    count: int
    source: int
    source_length: int
    target: int
    target_length: int


@dataclass(frozen=True)
class Rows:
    """n examples without padding, sorted by length, the shortest first.

    Attributes:
        order: (n,) the index in the batch of each example.
        source_ids: (T_source,) token ids of the encoder.
        target_ids: (T_target,) token ids of the decoder.
        labels: (T_target,) the token to predict at each target token.
        example: (T_target,) the position in `order` of the example of each target token.
        runs: examples of equal lengths; they cover all n examples in order.
    """

    order: Tensor
    source_ids: Tensor
    target_ids: Tensor
    labels: Tensor
    example: Tensor
    runs: tuple[Run, ...]


def rows_of(inputs: Mapping[str, Tensor], labels: Tensor) -> Rows:
    """Return the rows of a padded batch.

    Args:
        inputs: input_ids and attention_mask (n, source length), decoder_input_ids (n, target length).
        labels: (n, target length), IGNORED at the padding.
    """
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
    """Yield one run for each group of neighbors with equal (source, target) lengths."""
    source = target = 0
    for (source_length, target_length), equal in groupby(lengths):
        count = len(list(equal))
        yield Run(count, source, source_length, target, target_length)
        source, target = source + count * source_length, target + count * target_length


class T5Rows:
    """The loss of a frozen T5 on rows of tokens.

    Args:
        model: a T5ForConditionalGeneration.
        products: every linear layer except the output head.
        dtype: of the inputs of the products.
    """

    def __init__(self, model: Any, products: Products, dtype: torch.dtype) -> None:
        self.model, self.products, self.dtype = model, products, dtype
        self.product = products.product
        # transformers computes this activation in five steps, each a pass through memory
        fused = partial(nn.functional.gelu, approximate="tanh")
        own = model.encoder.block[0].layer[1].DenseReluDense.act
        self.act = fused if isinstance(own, NewGELUActivation) else own
        self.n_heads: int = model.config.num_heads
        self.source_bias = lru_cache(maxsize=8)(self._source_bias)
        self.target_bias = lru_cache(maxsize=8)(self._target_bias)

    def nats(self, rows: Rows, n_candidates: int) -> Tensor:
        """Return (P, n) nats, summed over each example's label tokens, in the order of the batch."""
        logits = self.logits(rows, self.encoder_output(rows, n_candidates))
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1), rows.labels.repeat(n_candidates), reduction="none"
        ).view(n_candidates, -1)
        sums = nats.new_zeros(n_candidates, len(rows.order))
        return sums.index_add(1, rows.order[rows.example], nats)

    def encoder_output(self, rows: Rows, n_candidates: int) -> Tensor:
        """Return the encoder's output (P, T_source, d_model) in `dtype`."""
        encoder = self.model.encoder
        longest = max(run.source_length for run in rows.runs)
        biases = [self.source_bias(longest)[..., : r.source_length, : r.source_length] for r in rows.runs]
        spans = [(run.source, run.source_length) for run in rows.runs]
        x = self.embeddings(rows.source_ids, n_candidates)
        for block in encoder.block:
            attention, feed_forward = block.layer
            x = self.add_self_attention(attention, x, rows.runs, spans, biases)
            x = self.feed_forward(feed_forward, x)
        return self.normalize(encoder.final_layer_norm, x)

    def logits(self, rows: Rows, source: Tensor) -> Tensor:
        """Return logits (P, T_target, vocabulary), fp32, for the encoder's output (P, T_source, d_model)."""
        decoder, config = self.model.decoder, self.model.config
        longest = max(run.target_length for run in rows.runs)
        biases = [self.target_bias(longest)[..., : r.target_length, : r.target_length] for r in rows.runs]
        spans = [(run.target, run.target_length) for run in rows.runs]
        x = self.embeddings(rows.target_ids, len(source))
        for block in decoder.block:
            attention, cross_attention, feed_forward = block.layer
            x = self.add_self_attention(attention, x, rows.runs, spans, biases)
            x = self.add_cross_attention(cross_attention, x, source, rows)
            x = self.feed_forward(feed_forward, x)
        x = rms_norm(decoder.final_layer_norm, x)
        if config.scale_decoder_outputs:
            x = x * config.d_model**-0.5
        logits: Tensor = self.model.lm_head(x)
        return logits

    # --- layers ---------------------------------------------------------------

    def embeddings(self, ids: Tensor, n_candidates: int) -> Tensor:
        """Return the embeddings (P, T, d_model) of token ids (T,), equal for all candidates."""
        x: Tensor = self.model.shared(ids)
        return x.expand(n_candidates, *x.shape)

    def normalize(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Return the norm of x (P, T, d_model) in `dtype`."""
        return rms_norm(norm, x).to(self.dtype)

    def add_self_attention(
        self,
        layer: Any,
        x: Tensor,
        runs: Sequence[Run],
        spans: Sequence[tuple[int, int]],
        biases: Sequence[Tensor],
    ) -> Tensor:
        """Return x (P, T, d_model) plus the self-attention of one layer.

        Args:
            layer: a T5LayerSelfAttention.
            x: (P, T, d_model) fp32.
            runs: of the examples.
            spans: (first row, length) of each run in x.
            biases: of each run, (1, heads, length, length).
        """
        attention, normed = layer.SelfAttention, self.normalize(layer.layer_norm, x)
        q, k, v = (self.product(part, normed) for part in (attention.q, attention.k, attention.v))
        seen = [
            self.attention([self.heads(part, run.count, *span) for part in (q, k, v)], bias)
            for run, span, bias in zip(runs, spans, biases, strict=True)
        ]
        return x + self.product(attention.o, self.in_rows(seen, len(x)))

    def add_cross_attention(self, layer: Any, x: Tensor, source: Tensor, rows: Rows) -> Tensor:
        """Return x (P, T_target, d_model) plus the attention to the source (P, T_source, d_model)."""
        attention, normed = layer.EncDecAttention, self.normalize(layer.layer_norm, x)
        q = self.product(attention.q, normed)
        if not self.products.adapts(attention.k) and self.few_ask(rows):
            seen = self.cross_attention_few_targets(attention, q, source, rows.runs)
        else:
            seen = self.cross_attention(attention, q, source, rows.runs)
        return x + self.product(attention.o, seen)

    def cross_attention(self, attention: Any, q: Tensor, source: Tensor, runs: Sequence[Run]) -> Tensor:
        """Return (P, T_target, heads * d): the attention of q (P, T_target, heads * d) to the source."""
        k, v = self.product(attention.k, source), self.product(attention.v, source)
        seen = [
            self.attention(
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

    def cross_attention_few_targets(
        self, attention: Any, q: Tensor, source: Tensor, runs: Sequence[Run]
    ) -> Tensor:
        """Return (P, T_target, heads * d), the same as `cross_attention`, without making keys and values.

        By q (W_k h) = (q W_k) h, each head's query is multiplied by the weight of the keys and then directly
        by the source h. The weighted mean of the source is then multiplied by the weight of the values. This
        is less work where the targets are few.
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
        """Return whether `cross_attention_few_targets` takes less work than `cross_attention`.

        Work is counted in multiplications. The margin FEW_ASK_MARGIN is there because
        `cross_attention_few_targets` has smaller products, which are slower per multiplication.
        """
        d_model, inner = self.model.config.d_model, self.n_heads * self.model.config.d_kv
        pairs = sum(run.count * run.target_length * run.source_length for run in rows.runs)
        few = len(rows.target_ids) * inner * d_model + pairs * self.n_heads * d_model
        return bool(FEW_ASK_MARGIN * few < len(rows.source_ids) * inner * d_model)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return x (P, T, d_model) plus the feed-forward layer."""
        dense, normed = layer.DenseReluDense, self.normalize(layer.layer_norm, x)
        inner = self.gated_activation if hasattr(dense, "wi_0") else self.activation
        if any(self.products.adapts(part) for part in dense.children() if isinstance(part, nn.Linear)):
            return x + self.product(dense.wo, inner(dense, normed))
        # a few candidates at a time, so that the inner layer stays in the processor's cache
        parts = torch.split(normed, max(1, ROWS_IN_CACHE // x.shape[1]))
        return x + torch.cat([self.product(dense.wo, inner(dense, part)) for part in parts])

    def gated_activation(self, dense: Any, x: Tensor) -> Tensor:
        """Return the inner layer (P, T, d_ff) of a gated feed-forward, act(x W₀) * (x W₁), in `dtype`."""
        inner = self.act(self.product(dense.wi_0, x)) * self.product(dense.wi_1, x)
        return inner.to(self.dtype)

    def activation(self, dense: Any, x: Tensor) -> Tensor:
        """Return the inner layer (P, T, d_ff) of a plain feed-forward, act(x W), in `dtype`."""
        return self.act(self.product(dense.wi, x)).to(self.dtype)

    # --- attention ------------------------------------------------------------

    def heads(self, rows: Tensor, count: int, start: int, length: int) -> Tensor:
        """Return (P * count, heads, length, d) for `count` examples from row `start` of (P, T, heads * d)."""
        part = rows[:, start : start + count * length]
        return part.reshape(len(rows) * count, length, self.n_heads, -1).transpose(1, 2)

    def in_rows(self, seen: Sequence[Tensor], n_candidates: int) -> Tensor:
        """Return (P, T, heads * d) in `dtype`, from each run's (P * count, heads, length, d)."""
        parts = [
            part.transpose(1, 2).flatten(2).reshape(n_candidates, -1, part.shape[1] * part.shape[3])
            for part in seen
        ]
        return torch.cat(parts, 1).to(self.dtype)

    def attention(self, heads: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        """Return the attention (batch, heads, queries, d) of q, k and v; T5 does not scale the scores.

        Args:
            heads: q (batch, heads, queries, d), k and v (batch, heads, keys, d).
            bias: (1, heads, queries, keys), added to the scores; None for cross attention.
        """
        q, k, v = heads
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    def _source_bias(self, length: int) -> Tensor:
        """Return (1, heads, length, length): the bias that every encoder layer adds to its scores."""
        attention = self.model.encoder.block[0].layer[0].SelfAttention
        bias: Tensor = attention.compute_bias(length, length)
        return bias.detach().contiguous()

    def _target_bias(self, length: int) -> Tensor:
        """Return the decoder's bias (1, heads, length, length), -inf where a token would see a later one."""
        attention = self.model.decoder.block[0].layer[0].SelfAttention
        bias: Tensor = attention.compute_bias(length, length)
        later = torch.ones(length, length, dtype=torch.bool, device=bias.device).triu(1)
        return bias.detach().masked_fill(later, -torch.inf).contiguous()


def by_head(rows: Tensor, weights: Tensor) -> Tensor:
    """Multiply rows (T, heads, d) by weights (heads, d, e) head by head: (T, heads, e)."""
    return (rows.transpose(0, 1) @ weights).transpose(0, 1)


def rms_norm(norm: Any, x: Tensor) -> Tensor:
    """Return the RMS norm of x (…, d_model) over its last dimension, in the type of x."""
    return nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
