"""The table of model types against transformers itself, and the layers it leads to against models that load.

Run as a program it prints the table anew, for a newer transformers:

    python -m tests.modules_registry.core.test_model_types
"""

import pytest

from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.model_types import MODEL_TYPES, ModelType

SMALL = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 32, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
SMALL_OF = {
    "t5": {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2},
    "bart": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32,
    },
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
    "bloom": {"n_layer": 1, "n_head": 2},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 32},
    "mpt": {"d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 32, "expansion_ratio": 2},
    "gptj": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "rotary_dim": 4},
    "qwen3_moe": {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8},
}  # fmt: skip
UNSETTABLE = {"falcon": {"head_dim"}, "bart": {"hidden_size", "num_attention_heads"}}
KINDS = (
    *("t5", "bart", "gpt2", "bloom", "opt", "falcon", "mpt", "gptj", "gpt_neox", "llama", "mistral", "qwen2"),
    *("qwen3_moe", "gemma", "phi3"),
)


def types_of_transformers():
    """(base prefix, head, embedding, whether they are tied by default) of each text-generating model type."""
    import transformers
    from transformers.models.auto import modeling_auto

    names = {
        **modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        **modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }
    found = {}
    for model_type, name in sorted(names.items()):
        kind = getattr(transformers, name if isinstance(name, str) else name[0])
        tied = getattr(kind, "_tied_weights_keys", None)
        embedding = tied.get("lm_head.weight") if isinstance(tied, dict) else None
        if embedding is None:
            continue
        try:
            by_default = bool(transformers.CONFIG_MAPPING[model_type]().tie_word_embeddings)
        except Exception:  # noqa: BLE001  some need a configuration of their parts
            continue
        prefix = kind.base_model_prefix
        nested = embedding.startswith(f"{prefix}.")
        found[model_type] = ModelType(prefix if nested else "", embedding.removesuffix(".weight"), by_default)
    return found


@pytest.mark.slow  # it imports every model of transformers
def test_the_table_is_that_of_transformers():
    assert types_of_transformers() == MODEL_TYPES


def small_config(kind):
    usual = {key: value for key, value in SMALL.items() if key not in UNSETTABLE.get(kind, ())}
    return usual | SMALL_OF.get(kind, {})


def layers_as_loaded(folder):
    """d_out, d_in of each linear layer of the model as transformers loads it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.pytorch_utils import Conv1D

    is_pair = AutoConfig.from_pretrained(folder).is_encoder_decoder
    model = (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM).from_pretrained(folder)
    found = {}
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            found[path] = (layer.out_features, layer.in_features)
        elif isinstance(layer, Conv1D):
            found[path] = (layer.weight.shape[1], layer.weight.shape[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("has_head", [True, False], ids=["with its head", "without a head"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_are_those_of_the_model_as_it_loads(tmp_path, kind, has_head):
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(kind, **small_config(kind))
    with_head = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    (with_head if has_head else AutoModel).from_config(config).save_pretrained(tmp_path)
    found = base_shapes_of(tmp_path / "config.json", sorted(tmp_path.glob("*.safetensors")))
    loaded = layers_as_loaded(tmp_path)
    if not has_head and not config.tie_word_embeddings:
        loaded.pop("lm_head")  # it is no part of the file, and random
    others = {path: shape for path, shape in found.items() if path not in loaded}
    assert {path: found[path] for path in loaded} == loaded
    assert all("gate" in path.split(".") for path in others)  # a router's weights, of which no LoRA is made


if __name__ == "__main__":
    for name, row in types_of_transformers().items():
        print(f'    "{name}": ModelType("{row.prefix}", "{row.embedding}", {row.is_tied}),')  # noqa: T201
