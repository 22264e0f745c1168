"""The table of model types against transformers itself, and the layers it leads to against models that load.

Run as a program it prints the table anew, for a newer transformers:

    python -m tests.modules_registry.core.test_model_types
"""

import re
from dataclasses import replace
from functools import cache

import pytest

from modules_registry.core.adapter_file import TensorEntry
from modules_registry.core.base_shapes import TEXT_LAYER, base_shapes_of, linear_layers
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
# Parts of the paths of matrices that are no layers and that no LoRA is made of: routers, positions.
NO_LAYERS = {"gate", "router", "rel_pos_emb", "relative_attention_bias_layer"}
UNSETTABLE = {"falcon": {"head_dim"}, "bart": {"hidden_size", "num_attention_heads"}}
KINDS = (
    *("t5", "bart", "gpt2", "bloom", "opt", "falcon", "mpt", "gptj", "gpt_neox", "llama", "mistral", "qwen2"),
    *("qwen3_moe", "gemma", "phi3"),
)


def names_of_classes():
    """model_type -> the class that transformers loads it with to generate text."""
    from transformers.models.auto import modeling_auto

    names = {
        **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        **modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        **modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }
    return {kind: name if isinstance(name, str) else name[0] for kind, name in sorted(names.items())}


def make_shallow(config):
    """One layer of each kind: more say nothing new of the names."""
    for key in ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"):
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, 1)
    for key in ("text_config", "vision_config", "audio_config"):
        part = getattr(config, key, None)
        if part is not None and not isinstance(part, dict):
            make_shallow(part)


@cache
def model_without_weights(kind, name):
    """The model as transformers builds it, without any numbers; None where it needs a config of its own."""
    import torch
    import transformers

    try:
        config = transformers.CONFIG_MAPPING[kind]()
        make_shallow(config)
        with torch.device("meta"):
            return getattr(transformers, name)(config)
    except Exception:  # noqa: BLE001  whatever the class asks for
        return None


def tables_of(model):
    """The names of the weights that are matrices: of linear layers and of embeddings."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D, torch.nn.Embedding)
    return sorted(f"{path}.weight" for path, layer in model.named_modules() if isinstance(layer, kinds))


def renames_of(model):
    """The rules by which transformers renames matrices of this model's earlier files, as expressions."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, apply_renamings

    def renamings(**options):
        found = get_model_conversion_mapping(model, **options)
        return [each for each in found if isinstance(each, WeightRenaming)]

    rules, used = renamings(), set()
    for with_old_rules in (False, True):
        backwards = [each.reverse_transform() for each in reversed(renamings(add_legacy=with_old_rules))]
        for name in tables_of(model):
            name = apply_renamings(name, backwards)
            for number, rule in enumerate(rules):
                new, _ = rule.rename_source_key(name)
                used |= {number} if new != name else set()
                name = new
    return tuple(expression_of(rule) for number, rule in enumerate(rules) if number in used)


def all_renames_of(kind, name):
    """The same of a model that cannot be built here, whether they are used or not."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    rules = get_checkpoint_conversion_mapping(name) or get_checkpoint_conversion_mapping(kind) or []
    return tuple(expression_of(rule) for rule in rules if isinstance(rule, WeightRenaming))


def expression_of(rule):
    """A rule of transformers as a pattern and its replacement."""
    sources = [
        source.replace("*.", r".*\.") + (r"(?!\w)" if source[-1].isalnum() else "")
        for source in sorted(rule.source_patterns, key=len, reverse=True)
    ]
    pattern, replacement = "|".join(sources), rule.target_patterns[0]
    if rule.scope_prefix is not None:
        base = f"(?:{re.escape(rule.base_model_prefix)}\\.)?" if rule.base_model_prefix else ""
        scope = f"{re.escape(rule.scope_prefix)}\\." if rule.scope_prefix else ""
        rest = "" if pattern.startswith("^") else "(?P<rest>.*?)"
        pattern = f"^(?P<scope>{base}{scope}){rest}{pattern.removeprefix('^')}"
        replacement = (
            r"\g<scope>"
            + (r"\g<rest>" if rest else "")
            + replacement.replace(r"\1", r"\3" if rest else r"\2")
        )
    return pattern, replacement


def types_of_transformers():
    """model_type -> ModelType, of each that generates text and whose head can be tied."""
    import transformers

    found = {}
    for model_type, name in names_of_classes().items():
        kind = getattr(transformers, name, None)
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
        model = model_without_weights(model_type, name)
        renames = renames_of(model) if model is not None else all_renames_of(model_type, name)
        found[model_type] = ModelType(
            prefix if nested else "", embedding.removesuffix(".weight"), by_default, renames
        )
    return found


@pytest.mark.slow  # it imports every model of transformers
def test_the_table_is_that_of_transformers():
    assert types_of_transformers() == MODEL_TYPES


def entries_of_saved_file(model):
    """The matrices as save_pretrained would write them, in the names of earlier files; by their own names."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, apply_converters, apply_renamings

    rules = get_model_conversion_mapping(model, add_legacy=False)
    renamings = [each for each in rules if isinstance(each, WeightRenaming)]
    backwards = [each.reverse_transform() for each in reversed(renamings)]
    converters = [each.reverse_transform() for each in rules if each not in renamings]
    entries = {}
    tensors = dict(model.named_parameters(remove_duplicate=False))
    for name in tables_of(model):
        saved = apply_renamings(name, backwards)
        if apply_converters(name, converters)[0] == name == apply_renamings(saved, renamings):
            entries[name] = TensorEntry(saved, "F32", tuple(tensors[name].shape), 0, 0)
    return entries


# Their linear layers that turn patches of a picture into vectors are called embeddings.
OF_PICTURES = ("vision_embed_tokens", "patch_embedding", "patch_embed")
# They cannot be made shallow, their head is another class's, or names in their vision tower change places.
LEFT_OUT = {"zamba", "zamba2", "ovis2", "kimi_k25"}


@pytest.mark.long  # it builds every model of transformers, without weights
def test_the_layers_of_every_model_type_are_found_by_the_names_of_its_earlier_files():
    """And none of a layer behind the last one, as files of GLM-4.5 and DeepSeek hold it."""
    wrong, tried = {}, 0
    for kind, name in names_of_classes().items():
        model = model_without_weights(kind, name) if kind in MODEL_TYPES else None
        if model is None or kind in LEFT_OUT:
            continue
        tried += 1
        saved = entries_of_saved_file(model)
        behind = [
            replace(entry, name=entry.name.replace("layers.0.", "layers.1."))
            for path, entry in saved.items()
            if TEXT_LAYER.match(path)
        ]
        config = model.config.to_dict()
        found = linear_layers(config, [*saved.values(), *behind])
        loaded = {path: shape for path, shape in layers_of(model).items() if f"{path}.weight" in saved}
        others = {path for path in found if path not in loaded and not NO_LAYERS & set(path.split("."))}
        missing = {
            path
            for path, shape in loaded.items()
            if found.get(path) != shape and not path.endswith(OF_PICTURES)
        }
        if missing or others:
            wrong[kind] = (sorted(missing)[:3], sorted(others)[:3])
    assert wrong == {}
    assert tried > 150


def small_config(kind):
    usual = {key: value for key, value in SMALL.items() if key not in UNSETTABLE.get(kind, ())}
    return usual | SMALL_OF.get(kind, {})


def layers_as_loaded(folder):
    """The layers of the model as transformers loads it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    is_pair = AutoConfig.from_pretrained(folder).is_encoder_decoder
    return layers_of((AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM).from_pretrained(folder))


def layers_of(model):
    """d_out, d_in of each linear layer, by its path."""
    import torch
    from transformers.pytorch_utils import Conv1D

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


def print_table(types):
    """As model_types.py has it: types with the same rules share them."""
    first = {}
    for name, row in types.items():
        if row.renames:
            first.setdefault(row.renames, name)
    print("RENAMES: Mapping[str, tuple[tuple[str, str], ...]] = {")  # noqa: T201
    for renames, name in first.items():
        rows = "".join(f"(r{pattern!r}, r{replacement!r})," for pattern, replacement in renames)
        print(f'    "{name}": ({rows}),'.replace("\\\\", "\\"))  # noqa: T201
    print("}\nMODEL_TYPES: Mapping[str, ModelType] = {")  # noqa: T201
    for name, row in types.items():
        rules = f', RENAMES["{first[row.renames]}"]' if row.renames else ""
        print(f'    "{name}": ModelType("{row.prefix}", "{row.embedding}", {row.is_tied}{rules}),')  # noqa: T201
    print("}")  # noqa: T201


if __name__ == "__main__":
    print_table(types_of_transformers())
