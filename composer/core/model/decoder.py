"""A decoder's loss on rows of tokens without padding: the fast way to score Llama, Qwen, Gemma and GPT-2.

The modules are those of transformers, and the results are equal; only the layout differs. The tokens of
n examples form one sequence of rows, so a linear layer is one product with as many rows as there are
tokens. The tokens with which all n prompts begin are rows only once. No row is computed that nothing
reads: the last token of an example predicts nothing, and after the last attention only the rows that
predict a label go on. P candidates are P such blocks of rows.

The residual stream, the norms, the attention and the loss are fp32, whatever the type of the products.

Letters of shapes: P candidates, n examples, T rows, S rows that predict a label, d numbers per head,
H heads of queries, G heads of keys and values.

Source: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, GemmaForCausalLM and
GPT2LMHeadModel of transformers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import (
    GemmaForCausalLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)
from transformers.activations import NewGELUActivation

from composer.core.model.t5 import IGNORED, Products

SAME_LENGTH = 1.25  # examples of a group differ in length by at most this factor
ROTARY = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, GemmaForCausalLM)
# The kinds of rotary positions whose frequencies do not depend on the length of the batch.
FIXED_ROTARY = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Group:
    """Examples of similar length, whose attention is computed together.

    Padding stands behind an example, so no row of the example sees it.

    Attributes:
        queries: (count, length) the row of each token behind the common beginning.
        keys: (count, keys) the rows that are seen: the common beginning, then those of `queries`.
        mask: (length, keys), 0 where a token sees a key and -inf where it does not.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor


@dataclass(frozen=True)
class DecoderRows:
    """n examples without padding: the tokens with which all begin, then the rest of each example.

    Attributes:
        ids: (T,) token ids.
        positions: (T,) the position of each token in its example.
        groups: their queries cover all T rows.
        place: (T,) where each row stands among the queries of all groups, one group after the other.
        scored: (S,) the rows that predict a label, example by example.
        labels: (S,) the token to predict at each of them.
        example: (S,) the index in the batch of the example of each of them.
        n_examples: n.
    """

    ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]
    place: Tensor
    scored: Tensor
    labels: Tensor
    example: Tensor
    n_examples: int

    def sums(self, nats: Tensor) -> Tensor:
        """Return (P, n) sums of (P, S) over the labels of each example."""
        return nats.new_zeros(len(nats), self.n_examples).index_add(1, self.example, nats)


def decoder_rows(inputs: Mapping[str, Tensor], labels: Tensor) -> DecoderRows:
    """Return the rows of a padded batch.

    Args:
        inputs: input_ids and attention_mask (n, length), padded on the right.
        labels: (n, length), IGNORED where no token is scored; the scored tokens are the last ones of each
            example, and never its first.
    """
    device = labels.device
    texts = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(inputs["input_ids"].cpu(), inputs["attention_mask"].cpu(), strict=True)
    ]
    answers = [own[own != IGNORED].tolist() for own in labels.cpu()]
    prompts = [len(text) - len(answer) for text, answer in zip(texts, answers, strict=True)]
    shared = common_beginning(texts, min(prompts) - 1)
    lengths = [len(text) - 1 - shared for text in texts]  # the last token predicts nothing
    ends = torch.tensor([shared, *lengths]).cumsum(0).tolist()
    spans = [range(start, stop) for start, stop in pairwise(ends)]
    groups = groups_of(shared, spans)
    order = [row for group in groups for row in group.queries.flatten().tolist()]
    first = {row: i for i, row in reversed(list(enumerate(order)))}  # not where it is padding
    scored = [
        span.stop - len(answer) + i
        for span, answer in zip(spans, answers, strict=True)
        for i in range(len(answer))
    ]
    return DecoderRows(
        ids=torch.tensor(
            [*texts[0][:shared], *(i for text in texts for i in text[shared:-1])], device=device
        ),
        positions=torch.tensor(
            [*range(shared), *(shared + i for length in lengths for i in range(length))], device=device
        ),
        groups=tuple(
            Group(group.queries.to(device), group.keys.to(device), group.mask.to(device)) for group in groups
        ),
        place=torch.tensor([first[row] for row in range(len(first))], device=device),
        scored=torch.tensor(scored, device=device),
        labels=torch.tensor([token for answer in answers for token in answer], device=device),
        example=torch.tensor([i for i, answer in enumerate(answers) for _ in answer], device=device),
        n_examples=len(texts),
    )


def common_beginning(texts: Sequence[Sequence[int]], limit: int) -> int:
    """Return how many of the first tokens all texts share, at most `limit`; 0 for a single text."""
    if len(texts) == 1:
        return 0
    shared = 0
    while shared < limit and len({text[shared] for text in texts}) == 1:
        shared += 1
    return shared


def groups_of(shared: int, spans: Sequence[range]) -> list[Group]:
    """Return the group of the common beginning, if there is one, and groups of examples of similar length.

    Args:
        shared: the rows of the common beginning, which come first.
        spans: the rows of each example behind it.
    """
    groups = [group_of(0, [range(shared)])] if shared else []
    by_length = sorted(spans, key=len)
    while by_length:
        own = [span for span in by_length if len(span) <= SAME_LENGTH * len(by_length[0]) + 1]
        groups.append(group_of(shared, own))
        by_length = by_length[len(own) :]
    return groups


def group_of(shared: int, spans: Sequence[range]) -> Group:
    """Return the group of these examples; the last row of an example stands for its padding too."""
    length = max(map(len, spans))
    queries = torch.tensor(
        [[min(row, span.stop - 1) for row in range(span.start, span.start + length)] for span in spans]
    )
    keys = torch.cat([torch.arange(shared).expand(len(spans), -1), queries], 1)
    later = torch.ones(length, shared + length, dtype=torch.bool).triu(shared + 1)
    return Group(queries, keys, torch.zeros(later.shape).masked_fill(later, -torch.inf))


# The cosines and the signed sines, (1, T, 1, d) each, by which rotary positions turn queries and keys; GPT-2
# has none.
Turns = tuple[Tensor, Tensor] | None


class Blocks(Protocol):
    """What differs between the families; all of them normalize before each attention and feed-forward.

    Attributes:
        blocks: of the model, from the first to the last.
        n_heads: H.
        n_key_heads: G.
    """

    blocks: Sequence[Any]
    n_heads: int
    n_key_heads: int

    def begin(self, rows: DecoderRows) -> tuple[Tensor, Turns]:
        """Return the embeddings (T, d_model), equal for all candidates, and the rotation of the rows."""

    def attention_inputs(self, block: Any, x: Tensor, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (P, T, H, d), k and v (P, T, G, d) of the residual stream x (P, T, d_model)."""

    def attention_output(self, block: Any, seen: Tensor) -> Tensor:
        """Return what the attention adds to x, (P, rows, d_model), for seen (P, rows, H * d)."""

    def scale(self, block: Any) -> float:
        """Return the factor of the scores of attention."""

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """Return what the feed-forward layer adds to x (P, rows, d_model)."""

    def end(self, x: Tensor) -> Tensor:
        """Return the last norm of x (P, rows, d_model), in fp32."""


class Decoder:
    """The logits of a frozen decoder at the rows that predict a label.

    Args:
        model: one of the families above.
        products: every linear layer except the output head.
        dtype: of the inputs of the products.
    """

    def __init__(self, model: Any, products: Products, dtype: torch.dtype) -> None:
        self.model = model
        kind = Gpt2Blocks if type(model) is GPT2LMHeadModel else RotaryBlocks
        self.family: Blocks = kind(model, products, dtype)

    def nats(self, rows: DecoderRows, n_candidates: int) -> Tensor:
        """Return (P, n) nats, summed over each example's label tokens."""
        logits = self.logits(rows, n_candidates)
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1), rows.labels.repeat(n_candidates), reduction="none"
        )
        return rows.sums(nats.view(n_candidates, -1))

    def logits(self, rows: DecoderRows, n_candidates: int) -> Tensor:
        """Return logits (P, S, vocabulary), fp32."""
        family = self.family
        x, turns = family.begin(rows)
        x = x.expand(n_candidates, -1, -1)
        for block in family.blocks:
            seen = self.attention(rows, *family.attention_inputs(block, x, turns), family.scale(block))
            if block is family.blocks[-1]:
                x, seen = x[:, rows.scored], seen[:, rows.scored]
            x = x + family.attention_output(block, seen)
            x = x + family.feed_forward(block, x)
        logits: Tensor = self.model.lm_head(family.end(x))
        return logits

    def attention(self, rows: DecoderRows, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Return (P, T, H * d): what each row sees.

        The H / G heads of queries that share a head of keys ask it together, as so many more queries.

        Args:
            rows: of the examples.
            q: (P, T, H, d).
            k: (P, T, G, d).
            v: (P, T, G, d).
            scale: of the scores.
        """
        n_candidates, shared_by = len(q), q.shape[2] // k.shape[2]
        parts = []
        for group in rows.groups:
            count, length = group.queries.shape
            asked = q[:, group.queries.flatten()].view(
                n_candidates * count, length, k.shape[2], shared_by, q.shape[3]
            )
            asked = asked.permute(0, 2, 3, 1, 4).flatten(2, 3)  # (P * count, G, H / G * length, d)
            own_k, own_v = (
                part[:, group.keys.flatten()].view(n_candidates * count, -1, *part.shape[2:]).transpose(1, 2)
                for part in (k, v)
            )
            seen = nn.functional.scaled_dot_product_attention(
                asked, own_k, own_v, attn_mask=group.mask.repeat(shared_by, 1), scale=scale
            )
            seen = seen.view(*seen.shape[:2], shared_by, length, -1).permute(0, 3, 1, 2, 4)
            parts.append(seen.reshape(n_candidates, count * length, -1))
        return torch.cat(parts, 1)[:, rows.place]


class RotaryBlocks:
    """Llama, Mistral, Qwen2, Qwen3 and Gemma: RMS norms, rotary positions, a gated feed-forward.

    Args:
        model: of transformers.
        products: every linear layer except the output head.
        dtype: of the inputs of the products.
    """

    def __init__(self, model: Any, products: Products, dtype: torch.dtype) -> None:
        self.model, self.product, self.dtype = model.model, products.product, dtype
        self.blocks = model.model.layers
        self.n_heads: int = model.config.num_attention_heads
        self.n_key_heads: int = model.config.num_key_value_heads
        self.act = fused_activation(self.blocks[0].mlp.act_fn)

    def begin(self, rows: DecoderRows) -> tuple[Tensor, Turns]:
        """Return the embeddings (T, d_model) and the rotation of the rows."""
        x: Tensor = self.model.embed_tokens(rows.ids)
        cos, sin = self.model.rotary_emb(x, rows.positions.unsqueeze(0))  # (1, T, d) both
        half = sin.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        return x, (cos.unsqueeze(2), signed.unsqueeze(2))

    def attention_inputs(self, block: Any, x: Tensor, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (P, T, H, d), k and v (P, T, G, d)."""
        attention, normed = block.self_attn, rms_norm(block.input_layernorm, x).to(self.dtype)
        q, k, v = (
            heads(self.product(part, normed), attention.head_dim)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        if hasattr(attention, "q_norm"):
            q, k = rms_norm(attention.q_norm, q), rms_norm(attention.k_norm, k)
        return rotate(q, turns), rotate(k, turns), v

    def attention_output(self, block: Any, seen: Tensor) -> Tensor:
        """Return the output projection of seen (P, rows, H * d)."""
        return self.product(block.self_attn.o_proj, seen.to(self.dtype))

    def scale(self, block: Any) -> float:
        """Return the factor of the scores of attention."""
        return float(block.self_attn.scaling)

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """Return (act(x W₀) * (x W₁)) W₂ of the norm of x (P, rows, d_model)."""
        mlp, normed = block.mlp, rms_norm(block.post_attention_layernorm, x).to(self.dtype)
        gate, up = self.product(mlp.gate_proj, normed), self.product(mlp.up_proj, normed)
        return self.product(mlp.down_proj, multiply(self.act(gate), up).to(self.dtype))

    def end(self, x: Tensor) -> Tensor:
        """Return the last norm of x (P, rows, d_model)."""
        return rms_norm(self.model.norm, x)


class Gpt2Blocks:
    """GPT-2: layer norms, learned positions, one product for q, k and v.

    Args:
        model: a GPT2LMHeadModel.
        products: every linear layer except the output head.
        dtype: of the inputs of the products.
    """

    def __init__(self, model: Any, products: Products, dtype: torch.dtype) -> None:
        self.model, self.product, self.dtype = model.transformer, products.product, dtype
        self.blocks = model.transformer.h
        self.n_heads = self.n_key_heads = int(model.config.num_attention_heads)
        self.act = fused_activation(self.blocks[0].mlp.act)

    def begin(self, rows: DecoderRows) -> tuple[Tensor, Turns]:
        """Return the embeddings of tokens and positions (T, d_model)."""
        return self.model.wte(rows.ids) + self.model.wpe(rows.positions), None

    def attention_inputs(self, block: Any, x: Tensor, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, each (P, T, H, d)."""
        joined = self.product(block.attn.c_attn, block.ln_1(x).to(self.dtype))
        q, k, v = (heads(part, part.shape[-1] // self.n_heads) for part in joined.chunk(3, -1))
        return q, k, v

    def attention_output(self, block: Any, seen: Tensor) -> Tensor:
        """Return the output projection of seen (P, rows, H * d)."""
        return self.product(block.attn.c_proj, seen.to(self.dtype))

    def scale(self, block: Any) -> float:
        """Return the factor of the scores of attention."""
        return float(block.attn.scaling)

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """Return act(x W₁) W₂ of the norm of x (P, rows, d_model)."""
        inner = self.act(self.product(block.mlp.c_fc, block.ln_2(x).to(self.dtype)))
        return self.product(block.mlp.c_proj, inner.to(self.dtype))

    def end(self, x: Tensor) -> Tensor:
        """Return the last norm of x (P, rows, d_model)."""
        normed: Tensor = self.model.ln_f(x)
        return normed


def computes_as_decoder(model: Any, longest: int) -> bool:
    """Return whether `Decoder` computes exactly what transformers does for this model.

    Args:
        model: any model of transformers.
        longest: the most tokens of one text.
    """
    config = model.config
    if type(model) is GPT2LMHeadModel:  # not isinstance: a subclass may compute something else
        return not config.add_cross_attention
    if type(model) not in ROTARY:
        return False
    window = getattr(config, "sliding_window", None)
    return (
        config.rope_parameters["rope_type"] in FIXED_ROTARY
        and (window is None or window >= longest)
        and not getattr(config, "use_bidirectional_attention", None)
    )


def fused_activation(own: Any) -> Any:
    """Return the activation; transformers computes GPT-2's in several steps, each a pass through memory."""
    return partial(nn.functional.gelu, approximate="tanh") if isinstance(own, NewGELUActivation) else own


def heads(x: Tensor, d: int) -> Tensor:
    """Return x (P, T, heads * d) as (P, T, heads, d)."""
    return x.view(*x.shape[:2], -1, d)


def rotate(x: Tensor, turns: Turns) -> Tensor:
    """Return x (P, T, heads, d), turned by the angles of its positions."""
    assert turns is not None
    cos, sin = turns
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return a * b, in the memory of a where no gradient needs it."""
    return a * b if torch.is_grad_enabled() else a.mul_(b)


def rms_norm(norm: Any, x: Tensor) -> Tensor:
    """Return the RMS norm of x (…, d) over its last dimension, for x in fp32."""
    is_gemma = hasattr(norm, "eps")  # whose weight is stored less one
    weight, epsilon = (1 + norm.weight, norm.eps) if is_gemma else (norm.weight, norm.variance_epsilon)
    return nn.functional.rms_norm(x, x.shape[-1:], weight, epsilon)
