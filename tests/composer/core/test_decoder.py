"""The fast path of a decoder gives what transformers' own forward pass gives, losses and gradients alike."""

from contextlib import contextmanager

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from composer.core.methods.base import single_modules
from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.methods.svd import TruncatedTies
from composer.core.model import base_model
from composer.core.model.base_model import MAX_TOKENS, FrozenBaseModel
from composer.core.model.decoder import common_beginning, computes_as_decoder, decoder_rows
from composer.core.modules.module_stack import LoraModule, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import SIZE, tiny_tokenizer

# Equal lengths, in a row and apart; the longest answer behind the shortest prompt.
EXAMPLES = (
    Example("cat dog fig saw", "chat"),
    Example("cat", "chat chien figue scie"),
    Example("dog fig", "chien"),
    Example("saw bay", "scie"),
    Example("leg hat cat dog fig saw bay leg hat cat dog fig saw", "CAT DOG"),
    Example("hat bay", "baie chat"),
)
ROTARY_SIZES = {
    "vocab_size": SIZE,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
SCALED = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0}
SCALED |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
GPT2_SIZES = {"vocab_size": SIZE, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 64}


def rotary(model, config, **options):
    return lambda: model(config(**(ROTARY_SIZES | options)))


MAKE = {
    "llama": rotary(LlamaForCausalLM, LlamaConfig, attention_bias=True, mlp_bias=True),
    "llama tied, scaled positions": rotary(
        LlamaForCausalLM, LlamaConfig, tie_word_embeddings=True, rope_parameters=SCALED
    ),
    "mistral": rotary(MistralForCausalLM, MistralConfig, head_dim=6, sliding_window=4096),
    "qwen2": rotary(Qwen2ForCausalLM, Qwen2Config, tie_word_embeddings=True),
    "qwen3": rotary(Qwen3ForCausalLM, Qwen3Config, head_dim=8),
    "gemma": rotary(GemmaForCausalLM, GemmaConfig, head_dim=6, num_key_value_heads=1),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES, scale_attn_by_inverse_layer_idx=True)),
    "gpt2 untied": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES, tie_word_embeddings=False)),
}
QUERY_VALUE = ("q_proj", "v_proj", "c_attn")


def make_model(kind):
    torch.manual_seed(0)
    model = MAKE[kind]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def base_and_stack(kind, *, every_layer=True, precision="fp32", template="{input}"):
    """A tiny base and three modules with random factors, on all layers or on queries and values."""
    base = FrozenBaseModel(make_model(kind), tiny_tokenizer(with_eos=False), template, precision)
    layers = [
        layer
        for path, layer in base.linear_layers().items()
        if path != "lm_head" and (every_layer or path.rpartition(".")[2] in QUERY_VALUE)
    ]
    assert layers
    generator = torch.Generator().manual_seed(1)

    def factor(*shape):
        return 0.4 * torch.randn(shape, generator=generator)

    stack = stack_modules(
        [
            LoraModule(
                str(i), 2, 1.5, {own.path: (factor(2, own.d_in), factor(own.d_out, 2)) for own in layers}
            )
            for i in range(3)
        ]
    )
    base.hook(layer.path for layer in layers)
    return base, stack


@contextmanager
def by_transformers(base):
    """The slow way: padded, through transformers' own forward pass and our hooks."""
    fast, base._decoder = base._decoder, None
    yield
    base._decoder = fast


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", 0 if request.param == "packed" else 1e9)


@pytest.mark.parametrize(
    ("every_layer", "products"), [(True, "packed"), (False, "plain")], indirect=["products"]
)
@pytest.mark.parametrize("kind", MAKE)
def test_losses_and_gradients_are_those_of_transformers(kind, every_layer, products):
    base, stack = base_and_stack(kind, every_layer=every_layer)
    assert base._decoder is not None
    batch = base.encode(EXAMPLES)
    found = []

    def score():
        w = torch.tensor([[0.9, -0.4, 0.2], [0.0, 0.0, 0.0]], requires_grad=True)
        nats = base.token_nats(batch, ExactSum(stack).adapters(w), 2)
        found.append((nats.detach(), *torch.autograd.grad(nats.sum(), w)))

    score()
    with by_transformers(base):
        score()
    (nats, gradient), (expected_nats, expected_gradient) = found
    assert nats.shape == (2, len(EXAMPLES))
    torch.testing.assert_close(nats, expected_nats, rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-3)
    assert (nats[0] - nats[1]).abs().min() > 0.01


@pytest.mark.parametrize("method", [FactorSum, TruncatedTies])
@torch.no_grad()
def test_every_form_of_a_delta_is_added(method):
    base, stack = base_and_stack("llama")
    batch, adapters = base.encode(EXAMPLES), method(stack).adapters(torch.tensor([[0.9, -0.4, 0.2]]))
    ours = base.token_nats(batch, adapters)
    with by_transformers(base):
        torch.testing.assert_close(ours, base.token_nats(batch, adapters), rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@torch.no_grad()
def test_a_beginning_that_all_prompts_share_is_computed_once(kind):
    base, stack = base_and_stack(kind, template="CAT fig bay {input} leg")
    batch, adapters = base.encode(EXAMPLES), single_modules(stack, [0, 1, 2])
    rows = batch.decoder_rows
    tokens = int(batch.inputs["attention_mask"].sum())
    assert len(rows.ids) == tokens - 3 * (len(EXAMPLES) - 1) - len(EXAMPLES)  # nor is the last of each
    ours = base.token_nats(batch, adapters, 3)
    with by_transformers(base):
        torch.testing.assert_close(ours, base.token_nats(batch, adapters, 3), rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@torch.no_grad()
def test_every_candidate_is_scored_as_if_it_were_alone(kind, products):
    base, stack = base_and_stack(kind)
    batch = base.encode(EXAMPLES)
    before = base.token_nats(batch, {})
    together = base.token_nats(batch, single_modules(stack, [0, 1, 2]), 3)
    apart = [base.token_nats(batch, single_modules(stack, [i])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=0)
    assert torch.equal(base.token_nats(batch, {}), before)  # what is added in place reaches no weight


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@torch.no_grad()
def test_bf16_products_move_a_loss_by_little(kind, products):
    rounded, exact = (base_and_stack(kind, precision=precision) for precision in ("bf16", "fp32"))
    weights = torch.tensor([[0.5, 0.2, -0.1]])
    nats = [
        base.token_nats(base.encode(EXAMPLES), ExactSum(stack).adapters(weights))
        for base, stack in (rounded, exact)
    ]
    assert not torch.equal(*nats)
    torch.testing.assert_close(*nats, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "model",
    [
        lambda: GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=SIZE,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ),
        rotary(MistralForCausalLM, MistralConfig, head_dim=6, sliding_window=MAX_TOKENS - 1),
        rotary(
            LlamaForCausalLM,
            LlamaConfig,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        ),
        rotary(GemmaForCausalLM, GemmaConfig, head_dim=6, use_bidirectional_attention=True),
        lambda: type("Changed", (LlamaForCausalLM,), {})(LlamaConfig(**ROTARY_SIZES)),
    ],
)
def test_what_the_fast_path_would_compute_otherwise_goes_through_transformers(model):
    assert not computes_as_decoder(model(), MAX_TOKENS)


def test_rows_hold_the_common_beginning_once_and_no_last_token():
    inputs = {
        "input_ids": torch.tensor([[7, 8, 9, 4, 1], [7, 8, 3, 1, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
    }
    labels = torch.full((2, 5), base_model.IGNORED)
    labels[0, 3:], labels[1, 2:4] = inputs["input_ids"][0, 3:], inputs["input_ids"][1, 2:4]
    rows = decoder_rows(inputs, labels)
    assert rows.ids.tolist() == [7, 8, 9, 4, 8, 3]  # the second prompt ends with 8, which predicts a label
    assert rows.positions.tolist() == [0, 1, 2, 3, 1, 2]
    assert rows.scored.tolist() == [2, 3, 4, 5]
    assert rows.labels.tolist() == [4, 1, 3, 1]
    assert rows.example.tolist() == [0, 0, 1, 1]
    begin, rest = rows.groups
    assert begin.queries.tolist() == [[0]]
    assert rest.queries.tolist() == [[4, 5, 5], [1, 2, 3]]
    assert rest.keys.tolist() == [[0, 4, 5, 5], [0, 1, 2, 3]]
    assert rest.mask.isfinite().tolist() == [[True, True, False, False], [True] * 3 + [False], [True] * 4]
    assert rows.place.tolist() == [0, 4, 5, 6, 1, 2]


def test_a_single_text_shares_nothing():
    assert common_beginning([[1, 2, 3]], 2) == 0
    assert common_beginning([[1, 2, 3], [1, 2, 3]], 2) == 2
