"""The linear layers of a base model, as an adapter names them."""

import io
import json

import pytest

from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.errors import BaseModelRefusal
from tests.attacks.adapters import Tensor, tensor, weights


def shapes_of(model_type: str, *files: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    config = io.BytesIO(json.dumps({"model_type": model_type}).encode())
    return base_shapes_of(config, [io.BytesIO(weights(tensors)) for tensors in files])


def test_linear_layers_are_listed_and_tables_and_norms_are_not():
    q = "encoder.block.0.layer.0.SelfAttention.q"
    assert shapes_of(
        "t5",
        {
            "shared.weight": tensor(40, 6),
            "encoder.embed_tokens.weight": tensor(40, 6),
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": tensor(32, 3),
            "encoder.block.0.layer.0.layer_norm.weight": tensor(6),
            f"{q}.weight": tensor(4, 6),
            f"{q}.bias": tensor(4, 1),
            "lm_head.weight": tensor(40, 6),
        },
    ) == {q: (4, 6), "lm_head": (40, 6)}


def test_layers_of_several_files_are_joined():
    first, second = {"model.a.q.weight": tensor(4, 6)}, {"model.b.q.weight": tensor(5, 6)}
    assert shapes_of("llama", first, second) == {"model.a.q": (4, 6), "model.b.q": (5, 6)}


def test_gpt2_keeps_some_layers_transposed():
    assert shapes_of(
        "gpt2",
        {"transformer.h.0.attn.c_attn.weight": tensor(6, 18), "lm_head.weight": tensor(40, 6)},
    ) == {"transformer.h.0.attn.c_attn": (18, 6), "lm_head": (40, 6)}


def test_a_gpt2_saved_without_its_head_gets_the_prefix_of_the_whole_model():
    assert shapes_of("gpt2", {"h.0.mlp.c_fc.weight": tensor(6, 24), "wte.weight": tensor(40, 6)}) == {
        "transformer.h.0.mlp.c_fc": (24, 6),
        "lm_head": (40, 6),
    }


@pytest.mark.parametrize("tied", [True, False, None])
def test_a_tied_head_is_a_layer_of_the_model_though_the_file_has_none(tied):
    """Llama's are not tied unless its config says so; Gemma's are."""
    for model_type, by_default in (("llama", False), ("gemma", True)):
        said = {} if tied is None else {"tie_word_embeddings": tied}
        config = io.BytesIO(json.dumps({"model_type": model_type} | said).encode())
        tensors = {"model.embed_tokens.weight": tensor(40, 6), "model.layers.0.q.weight": tensor(4, 6)}
        shapes = base_shapes_of(config, [io.BytesIO(weights(tensors))])
        assert shapes.get("lm_head") == ((40, 6) if (by_default if tied is None else tied) else None)


def test_a_base_may_hold_buffers_of_other_types():
    tensors = {"q.weight": tensor(4, 6, dtype="F64"), "position_ids": tensor(1, 8, dtype="I64")}
    assert shapes_of("bert", tensors) == {"q": (4, 6)}


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (b"[]", "config_not_an_object"),
        (b"{}", "model_type_missing"),
        (b'{"model_type": 5}', "model_type_missing"),
        (b'{"a": NaN, "model_type": "t5"}', "config_not_finite"),
        (b" " * 300_000, "config_too_large"),
    ],
)
def test_a_broken_config_is_refused(config, code):
    with pytest.raises(BaseModelRefusal) as refusal:
        base_shapes_of(io.BytesIO(config), [])
    assert (refusal.value.code, refusal.value.file) == (code, "config.json")


def test_broken_weights_are_refused():
    config = io.BytesIO(b'{"model_type": "t5"}')
    with pytest.raises(BaseModelRefusal) as refusal:
        base_shapes_of(config, [io.BytesIO(weights() + b"more")])
    assert (refusal.value.code, refusal.value.file) == ("trailing_bytes", "model.safetensors")
