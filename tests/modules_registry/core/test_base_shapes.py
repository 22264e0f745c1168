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


# --- what a file holds and the model does not load, and names of earlier versions ---


def layers_of(config: dict[str, object], *names: str) -> set[str]:
    tensors = {f"{name}.weight": tensor(4, 6) for name in names}
    return set(base_shapes_of(io.BytesIO(json.dumps(config).encode()), [io.BytesIO(weights(tensors))]))


@pytest.mark.parametrize(
    ("model_type", "prefix"),
    [("glm4_moe", "model."), ("deepseek_v3", "model."), ("qwen3_next", "model."), ("deepseek_v3", "")],
)
def test_layers_for_predicting_several_tokens_are_not_those_of_the_model(model_type, prefix):
    config = {"model_type": model_type, "num_hidden_layers": 2}
    loaded = [f"{prefix}layers.{number}.self_attn.o_proj" for number in (0, 1)]
    behind = [f"{prefix}layers.2.{name}" for name in ("self_attn.o_proj", "eh_proj", "shared_head.head")]
    others = ["mtp.layers.0.self_attn.o_proj", f"{prefix}mtp.0.fc"]
    found = layers_of(config, *loaded, *behind, *others)
    assert found == {f"model.layers.{number}.self_attn.o_proj" for number in (0, 1)}


def test_layers_of_an_encoder_are_not_counted_with_those_of_the_text_model():
    config = {"model_type": "gemma3", "text_config": {"num_hidden_layers": 1}}
    paths = ("vision_tower.encoder.layers.5.mlp.fc1", "language_model.layers.0.mlp.up_proj")
    assert layers_of(config, *(f"model.{path}" for path in paths)) == {f"model.{path}" for path in paths}


@pytest.mark.parametrize(
    ("model_type", "in_file", "loaded"),
    [
        ("gemma3", "language_model.model.layers.0.mlp.fc1", "model.language_model.layers.0.mlp.fc1"),
        ("gemma3", "vision_tower.vision_model.layers.0.fc1", "model.vision_tower.layers.0.fc1"),
        ("llava", "language_model.model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"),
        ("llava", "language_model.lm_head", "lm_head"),
        ("qwen2_vl", "model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"),
        ("qwen3_5_text", "model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("gpt_neox", "embed_out", "lm_head"),
    ],
)  # fmt: skip
def test_names_of_earlier_files_are_those_that_transformers_gives_them(model_type, in_file, loaded):
    assert layers_of({"model_type": model_type}, in_file) == {loaded}
    assert layers_of({"model_type": model_type}, loaded) == {loaded}


@pytest.mark.parametrize(
    ("model_type", "path", "is_layer"),
    [
        ("mixtral", "model.layers.0.block_sparse_moe.experts.0.w1", False),
        ("qwen3_moe", "model.layers.0.mlp.experts.3.up_proj", False),
        ("qwen3_moe", "model.layers.0.mlp.shared_expert.up_proj", True),
        ("switch_transformers", "decoder.block.1.layer.2.mlp.experts.expert_0.wi", True),
    ],
)
def test_numbered_experts_lie_in_one_tensor_of_the_model(model_type, path, is_layer):
    assert (path in layers_of({"model_type": model_type}, path)) == is_layer


@pytest.mark.parametrize(
    ("model_type", "router", "experts", "is_layer"),
    [
        ("mixtral", "model.layers.0.block_sparse_moe.gate", "block_sparse_moe.experts.0.w1", False),
        ("qwen3_moe", "model.layers.0.mlp.gate", "mlp.experts.0.up_proj", False),
        ("granitemoe", "model.layers.0.block_sparse_moe.router", "block_sparse_moe.experts.0.up_proj", False),
        ("llama4_text", "model.layers.0.feed_forward.router", "feed_forward.experts.0.up_proj", True),
        ("llama", "model.layers.0.mlp.gate", "mlp.up_proj", True),
    ],
)
def test_the_router_beside_experts_is_no_linear_layer(model_type, router, experts, is_layer):
    found = layers_of({"model_type": model_type}, router, f"model.layers.0.{experts}")
    assert (router in found) == is_layer
