"""Files that must be refused, each with the code of its refusal; and harmless ones that look odd.

Everything is made here, nothing is committed as a binary. A rule that none of these cases needs is a rule
too many: test_gate.py removes each in turn and looks for the case that then gets through.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from modules_registry.core.base_weights import BaseWeights
from tests.attacks.adapters import (
    BASE_SHAPES,
    D_IN,
    D_OUT,
    DROPPED,
    RANK,
    TARGETED,
    Tensor,
    assembled,
    base_weights,
    config,
    config_text,
    data_of,
    described,
    floats,
    name,
    plain_tensors,
    tensor,
    weights,
    weights_with,
)

INFINITY, NAN = float("inf"), float("nan")
FIRST, LAST = TARGETED[0], TARGETED[-1]
DATA_BYTES = len(data_of(plain_tensors()))


@dataclass(frozen=True)
class Case:
    name: str
    code: str  # of the refusal; empty for what must pass
    config: bytes = field(default_factory=config, repr=False)
    weights: bytes = field(default_factory=weights, repr=False)
    base_known: bool = False
    base_weights: BaseWeights | None = field(default=None, repr=False)


def _config_values() -> Iterator[tuple[str, object, str]]:
    """Key, value, code: the plain config with one value changed."""
    for value in ("IA3", "lo_ra", "adalora", "XLORA", "SHADOW", "", 1, ["LORA"]):
        yield "peft_type", value, "peft_type_not_supported"
    for key in ("base_model_name_or_path", "r", "lora_alpha"):
        yield key, DROPPED, "config_key_missing"
    yield from _base_names()
    for value in (0, -1, 1025, 10**6, 8.0, "8", True, None, [8], {"q": 8}):
        yield "r", value, "rank_out_of_range"
    for value in (0, 0.0, -1, -0.5, 65_537, 1e30, "16", True, None, [16]):
        yield "lora_alpha", value, "alpha_out_of_range"
    for value in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "seq_cls", "TaskType.SEQ_CLS"):
        yield "task_type", value, "classifier_head"
    for value in ("FEATURE_EXTRACTION", "seq2seq", "", 1, ["CAUSAL_LM"], {}):
        yield "task_type", value, "task_type_not_supported"
    yield from _patterns()
    yield from _variants()
    yield from _plain_values()


def _base_names() -> Iterator[tuple[str, object, str]]:
    for value in (None, "", 0, ["gpt2"], {}):
        yield "base_model_name_or_path", value, "base_missing"
    for value in (
        "/etc/passwd", "./model", "../model", "a/../b", "a..b",
        "a/b/c", "~/model", "C:\\model", "a\\b", "a/", "/a",
        "https://huggingface.co/gpt2", "//host/share", "file:///etc/passwd", "http://169.254.169.254/latest",
        "a--b/c", "user/..", "gpt2\n", " gpt2", "gpt2 ", "gpt\t2", "g\u202ept2", "ｇpt2",
        "a" * 97, "a/" + "b" * 97,
        "${HOME}", "a/b?c", "a/b@main", "-rf", "<script>alert(1)</script>",
    ):  # fmt: skip
        yield "base_model_name_or_path", value, "base_not_a_name"
    for value in ("../main", "a/../b", "/abs", "a b", "", 1, ["main"], "x" * 101, "-x", "main\n", "a?b"):
        yield "revision", value, "revision_not_a_name"


def _patterns() -> Iterator[tuple[str, object, str]]:
    """What peft would compile as a regular expression; (a+)+$ never ends on the right text."""
    hanging = "(a+)+$"
    for value in ([], {}, 1, {"q": 1}, ["q"] * 5001):
        yield "target_modules", value, "targets_not_a_list"
    for value in (
        hanging,
        "",
        ".q",
        "q.",
        "a..b",
        "q v",
        "q\n",
        "../q",
        1,
        None,
        ["q"],
        "a" * 201,
        "ｑ",
        "q-v",
    ):
        yield "target_modules", ["q", value], "target_not_a_name"
    yield "modules_to_save", ["lm_head"], "modules_to_save_not_supported"
    yield "modules_to_save", hanging, "modules_to_save_not_supported"
    for key in ("rank_pattern", "alpha_pattern"):
        for value in ([["q", 4]], "q", 4):
            yield key, value, "pattern_not_a_mapping"
    for key in (hanging, "q|v", ".*q", "^", "", "q\n", "q v"):
        yield "alpha_pattern", {key: 4}, "pattern_not_literal"
    yield "rank_pattern", {"q": 0}, "rank_out_of_range"
    yield "rank_pattern", {"q": "4"}, "rank_out_of_range"
    yield "alpha_pattern", {"q": -1}, "alpha_out_of_range"
    yield "target_parameters", ["experts.gate_up_proj"], "target_parameters_not_supported"


def _variants() -> Iterator[tuple[str, object, str]]:
    for value in ("all", "lora_only", True, None, 1):
        yield "bias", value, "bias_not_supported"
    yield "lora_bias", True, "bias_not_supported"
    for value in (
        "pissa", "pissa_niter_1000000000", "olora", "corda", "loftq", "lora_ga", "mica",
        "GAUSSIAN", 1, 0, [], {},
    ):  # fmt: skip
        yield "init_lora_weights", value, "init_not_supported"
    for key, value in {
        "alora_invocation_tokens": [1, 2],
        "arrow_config": {"top_k": 2},
        "enable_lora": [True, False, True],
        "kasa_config": {"r": 1},
        "layer_replication": [[0, 4], [2, 5]],
        "megatron_config": {"tensor_model_parallel_size": 2},
        "monteclora_config": {"samples": 8},
        "use_bdlora": {"nblocks": 2},
        "use_qalora": True,
        "velora_config": {"rank": 1},
    }.items():
        yield key, value, "variant_not_supported"
    yield "trainable_token_indices", [1], "trained_tokens"
    yield "trainable_token_indices", {"embed_tokens": [1]}, "trained_tokens"


def _plain_values() -> Iterator[tuple[str, object, str]]:
    for key, value in {
        "ensure_weight_tying": "yes",
        "corda_config": [1],
        "eva_config": "x",
        "loftq_config": 4,
        "lora_ga_config": True,
        "inference_mode": 1,
        "lora_dropout": 1.5,
        "megatron_core": "os",
        "merge_weights": "true",
        "peft_version": "0.21.2\n",
        "qalora_group_size": 0,
        "runtime_config": {"ephemeral_gpu_offload": True},
    }.items():
        yield key, value, "config_value_not_allowed"
    for value in (-0.1, "0.1", True, None):
        yield "lora_dropout", value, "config_value_not_allowed"
    yield "peft_version", "v" * 65, "config_value_not_allowed"
    yield "peft_version", 0.21, "config_value_not_allowed"
    for template in ("no place for it", 7, ["{input}"], {"chat": True}, "{input}" * 1000):
        yield "prompt_template", template, "prompt_template_not_a_template"
    yield "qalora_group_size", True, "config_value_not_allowed"
    for value in (
        "T5", [], {"base_model_class": "T5", "code": "x"}, {"parent_library": "os"},
        {"parent_library": "transformers_modules.evil"}, {"parent_library": "transformers.models;x"},
        {"base_model_class": "__import__('os')"}, {"base_model_class": 1}, {"parent_library": 1},
        {"unsloth_fixed": "yes"},
    ):  # fmt: skip
        yield "auto_mapping", value, "config_value_not_allowed"
    for key in ("use_rslora", "use_dora", "fan_in_fan_out"):
        for value in ("true", 1, 0, []):
            yield key, value, "not_true_or_false"
    for key, value in {
        "fine_tune_type": "lora",
        "model_type": "t5",
        "exec": "rm -rf /",
        "use_tomorrow": True,
        "tomorrow_config": {},
        "a": 0,
        "": "x",
    }.items():
        yield key, value, "config_key_unknown"


def config_cases() -> Iterator[Case]:
    for key, value, code in _config_values():
        written = "nothing" if value is DROPPED else repr(value)[:40]
        yield Case(f"config: {key} = {written}", code, config(**{key: value}))
    plain = config()
    for title, code, data in (
        ("empty", "config_not_json", b""),
        ("truncated", "config_not_json", plain[:-1]),
        ("two objects", "config_not_json", plain + plain),
        ("a comment", "config_not_json", b"// note\n" + plain),
        ("single quotes", "config_not_json", plain.replace(b'"', b"'")),
        ("a raw NUL", "config_not_json", plain + b"\x00"),
        ("an unclosed string of escapes", "config_not_json", b'"' + b'\\"' * 100_000),
        ("a list", "config_not_an_object", b"[" + plain + b"]"),
        ("a text", "config_not_an_object", b'"LORA"'),
        ("null", "config_not_an_object", b"null"),
        ("two byte order marks", "config_not_json", b"\xef\xbb\xbf" * 2 + plain),
        ("UTF-16 cut in a character", "config_not_utf8", plain.decode().encode("utf-16")[:-1]),
        ("UTF-16 without its mark", "config_not_json", plain.decode().encode("utf-16-le")),
        ("Latin-1", "config_not_utf8", config_text("inference_mode", '"é"').decode().encode("latin-1")),
        ("an overlong UTF-8 sequence", "config_not_utf8", plain + b"\xc0\x80"),
        ("1 MB and more", "config_too_large", plain + b" " * 1024**2),
        ("that of MLX", "mlx_format", b'{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}'),
        ("that of a model", "config_of_a_model", b'{"architectures": ["T5Model"], "model_type": "t5"}'),
        ("100,000 brackets", "config_too_deep", b"[" * 100_000),
        ("100,000 open objects", "config_too_deep", b'{"a":' * 20_000),
        ("9 levels", "config_too_deep", config_text("eva_config", "[" * 8 + "]" * 8)),
        ("a key twice", "config_duplicate_key", config_text("r", "4")[:-1] + b', "r": 8}'),
        ("a key twice further down", "config_duplicate_key", config_text("eva_config", '{"a": 1, "a": 2}')),
        ("rank with 400 digits", "config_number_too_long", config_text("r", "1" + "0" * 400)),
        ("rank with 200,000 digits", "config_number_too_long", config_text("r", "9" * 200_000)),
        ("alpha NaN", "config_not_finite", config_text("lora_alpha", "NaN")),
        ("alpha -Infinity", "config_not_finite", config_text("lora_alpha", "-Infinity")),
        ("alpha 1e400", "config_not_finite", config_text("lora_alpha", "1e400")),
        ("NUL in a value", "config_unstorable_text", config_text("peft_version", r'"a\u0000b"')),
        ("NUL in a key", "config_unstorable_text", config_text("a\x00", "null")),
        ("NUL in a list", "config_unstorable_text", config_text("target_modules", r'["q", "v\u0000"]')),
        ("NUL in a list of lists", "config_unstorable_text", config_text("eva_config", r'[["\u0000"]]')),
        ("half a surrogate pair", "config_unstorable_text", config_text("peft_version", r'"\ud83d"')),
    ):
        yield Case(f"config: {title}", code, data)


def _spoiled(**changes: object) -> dict[str, object]:
    """The plain tensors with some renamed keys changed or DROPPED."""
    merged = {**plain_tensors(), **changes}
    return {key: value for key, value in merged.items() if value is not DROPPED}


def _header_cases() -> Iterator[tuple[str, str, bytes]]:
    plain, tensors = weights(), plain_tensors()
    header, data = described(tensors), data_of(tensors)
    first, second, *_ = header
    yield "empty file", "weights_truncated", b""
    yield "seven bytes", "weights_truncated", b"\x01" * 7
    yield "ends in the header", "weights_truncated", plain[:100]
    yield "ends in the data", "weights_truncated", plain[:-1]
    yield "header length beyond the file", "weights_truncated", struct.pack("<Q", len(plain) - 7) + plain[8:]
    yield "header length 2**64 - 1", "header_too_large", b"\xff" * 8 + plain[8:]
    yield "header of 3 MB", "header_too_large", assembled(b"{" + b" " * 3 * 1024**2 + b"}", b"")
    yield "raw pickle", "weights_pickle", b"\x80\x02}q\x00."
    for protocol in (3, 4):
        yield f"raw pickle {protocol}", "weights_pickle", b"\x80" + bytes([protocol]) + b"}q\x00."
    yield "zipped pickle", "weights_pickle", b"PK\x03\x04" + bytes(26) + b"adapter/data.pkl" + bytes(64)
    yield "zipped folder", "weights_zip", b"PK\x03\x04" + bytes(26) + b"adapter_config.json" + bytes(64)
    yield "a GGUF file", "weights_gguf", b"GGUF" + bytes(64)
    yield "a login page", "weights_web_page", b"<!DOCTYPE html><title>Sign in</title>"
    yield "LFS pointer", "weights_lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    yield "header not UTF-8", "header_not_utf8", assembled(b'{"\xff": 1}', b"")
    yield "header begins with a space", "header_not_json", assembled(b" " + json.dumps(header).encode(), data)
    yield "header is a list", "header_not_json", assembled(b"[]", b"")
    yield "header of length 0", "header_not_json", assembled(b"", b"")
    yield "header cut short", "header_not_json", assembled(b'{"a": ', b"")
    yield "header too deep", "header_too_deep", assembled({"__metadata__": {"a": [[1]]}}, b"")
    yield "header of 100,000 brackets", "header_too_deep", assembled(b"{" + b"[" * 100_000, b"")
    twice = json.dumps(header)[:-1] + f", {json.dumps(first)}: {json.dumps(header[first])}}}"
    yield "tensor named twice", "header_duplicate_key", assembled(twice.encode(), data)
    yield "NaN in the header", "header_not_finite", assembled(b'{"a": NaN}', b"")
    yield (
        "NUL in a name",
        "header_unstorable_text",
        weights(_spoiled(**{name("q\x00", "A"): tensor(RANK, D_IN)})),
    )
    empty = {f"base_model.model.{number}.q.lora_A.weight": tensor(0) for number in range(10_001)}
    yield "10,001 empty tensors", "too_many_tensors", weights(empty)
    for metadata in ({"format": 1}, ["pt"], "pt", {"a": None}, {"a": {}}):
        yield f"metadata {metadata}", "header_metadata", weights(metadata=metadata)
    for entry in ({}, [], "F32", None, {"dtype": "F32", "shape": [1]}, header[first] | {"code": 1}):
        yield f"entry {str(entry)[:30]}", "header_entry", assembled(header | {first: entry}, data)
    for dtype in ("F64", "I64", "I8", "U8", "BOOL", "C64", "f32", "F8_E4M3", "", None, 1, ["F32"]):
        yield f"dtype {dtype}", "dtype_not_allowed", weights_with(dtype=dtype)
    for shape in (None, 12, "2x6", [RANK, -D_IN], [-RANK, -D_IN], [2.0, 6.0], [True, 12], [1] * 9, {"0": 2}):
        yield f"shape {shape}", "header_shape", weights_with(shape=shape)
    for offsets in (None, [0], [0, 24, 48], [-48, 0], [0.0, 48.0], "0:48", [False, 48]):
        yield f"offsets {offsets}", "header_offsets", weights_with(data_offsets=offsets)
    yield "shape too small for the bytes", "shape_against_bytes", weights_with(shape=[RANK, D_IN - 1])
    yield "shape of 2**62 rows", "shape_against_bytes", weights_with(shape=[2**62, 4])
    yield "offsets that run backwards", "shape_against_bytes", weights_with(data_offsets=[48, 0])
    yield "float16 in float32's bytes", "shape_against_bytes", weights_with(dtype="F16")
    yield (
        "two tensors on the same bytes",
        "tensors_overlap",
        assembled(header | {second: header[second] | {"data_offsets": [40, 72]}}, data),
    )
    last = list(header)[-1]
    yield "every tensor on one place", "tensors_overlap", assembled(
        {key: entry | {"data_offsets": [0, entry["data_offsets"][1] - entry["data_offsets"][0]]}
         for key, entry in header.items()}, data[:48],
    )  # fmt: skip
    yield "a gap at the start", "tensors_gap", assembled(_moved(header, 8), bytes(8) + data)
    yield (
        "a gap before the last",
        "tensors_gap",
        assembled(
            header | {last: header[last] | {"data_offsets": [DATA_BYTES - 28, DATA_BYTES + 4]}},
            data + bytes(4),
        ),
    )
    yield "one byte too many", "trailing_bytes", plain + b"\x00"
    yield "a ZIP at the end", "trailing_bytes", plain + b"PK\x05\x06" + bytes(18)
    yield "no tensors, some bytes", "trailing_bytes", assembled({}, bytes(8))


def _moved(header: dict[str, dict[str, list[int]]], by: int) -> dict[str, object]:
    return {
        key: entry | {"data_offsets": [offset + by for offset in entry["data_offsets"]]}
        for key, entry in header.items()
    }


STRANGE_NAMES = {
    "embeddings_saved": (
        "base_model.model.shared.weight", "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.weight", "base_model.model.transformer.wte.weight",
    ),
    "full_model": ("shared.weight", "model.layers.0.self_attn.q_proj.weight"),
    "prefix_missing": (f"{FIRST}.lora_A.weight", f"model.{FIRST}.lora_A.weight"),
    "whole_state": (f"base_model.model.{FIRST}.base_layer.weight",),
    "base_weights_inside": (
        name("q.base_layer", "A"),
        "base_model.model.lm_head.base_layer.bias",
    ),
    "trained_biases": (f"base_model.model.{FIRST}.lora_B.bias", f"base_model.model.{FIRST}.bias"),
    "embedding_lora": ("base_model.model.shared.lora_embedding_A",),
    "modules_saved": (name("lm_head.modules_to_save", "A"), name("q.original_module", "A")),
    "trained_tokens": ("base_model.model.embed_tokens.token_adapter.trainable_tokens_delta",),
    "classifier_head": (
        "base_model.model.classifier.weight", "base_model.model.score.weight",
        "base_model.model.v_head.weight", "v_head.summary.weight",
    ),
    "moe_experts": (name("mlp.experts.base_layer", "A"), name("mlp.experts", "A")),
    "kohya_format": ("lora_unet_down.lora_down.weight", "lora_te_text.alpha"),
    "diffusers_format": (
        "unet.down_blocks.0.to_q.lora_A.weight", "transformer.transformer_blocks.0.a.lora.weight",
    ),
    "mlx_format": ("model.layers.0.self_attn.q_proj.lora_a", "layers.0.q.lora_b"),
    "megatron_format": (
        "decoder.layers.0.self_attention.linear_qkv.lora_A.weight", "decoder.layers.1.mlp.linear_fc1.lora_A",
    ),
    "several_adapters": (
        f"base_model.model.{FIRST}.lora_A.style.weight", f"ref.base_model.model.{FIRST}.lora_A.weight",
    ),
    "tensor_twice": (f"base_model.model.{FIRST}.lora_A.default.weight",),
    "other_variant": (f"base_model.model.{FIRST}.hada_w1_a", "prompt.prompt_embeddings"),
    "tensor_not_lora": (
        "base_model.model.model.embed_tokens", "base_model.model.mlp.experts.0.weight",
        "model.q.lora_C.weight",
        f"base_model.model.{FIRST}.weight",
        f"base_model.model.{FIRST}.lora_C.weight",
        "base_model.model.lora_A.weight", "base_model.model..lora_A.weight", name("../../etc/passwd", "A"),
        name("q.lora_A", "A"), name("a b", "A"),
        name("<script>alert(1)</script>", "A"), name("q\n", "A"), name("q", "A") + "\n", name("\u202eq", "A"),
        name("\x7fq", "A"),
        name("a." * 100 + "q", "A"), "", "__metadata", name("q.lora_B", "A"),
    ),
}  # fmt: skip


def _tensor_cases() -> Iterator[tuple[str, str, bytes]]:
    yield "no tensors", "no_tensors", weights({})
    yield "metadata alone", "no_tensors", weights({}, metadata={"format": "pt"})
    for code, keys in STRANGE_NAMES.items():
        for key in keys:
            yield f"tensor {key[:100]!r}", code, weights(_spoiled(**{key: tensor(RANK, D_IN)}))
    empty = {key: tensor(0) for key in plain_tensors()}
    yield "tensors that ZeRO-3 did not gather", "not_gathered", weights(empty)
    yield (
        "one tensor that ZeRO-3 did not gather",
        "not_gathered",
        weights(_spoiled(**{name(FIRST, "A"): tensor(0)})),
    )
    yield (
        "a full model that ZeRO-3 did not gather",
        "not_gathered",
        weights({"model.embed.weight": tensor(0)}),
    )
    yield (
        "fused experts of three dimensions",
        "moe_experts",
        weights(_spoiled(**{"base_model.model.mlp.experts.gate.lora_C": tensor(2, RANK, D_IN)})),
    )
    yield "a size of 21 digits", "header_number_too_long", weights_with(shape=[10**20, 1])
    yield (
        "two names that become one",
        "tensor_twice",
        weights(_spoiled(**{f"module.{name(FIRST, 'A')}": tensor(RANK, D_IN)})),
    )
    magnitudes = {f"base_model.model.{path}.lora_magnitude_vector": tensor(D_OUT) for path in TARGETED}
    first = next(iter(magnitudes))
    yield "magnitudes in one layer", "magnitude_missing", weights(_spoiled(**{first: tensor(D_OUT)}))
    yield (
        "magnitudes of another size",
        "magnitude_shape",
        weights(_spoiled(**(magnitudes | {first: tensor(D_IN)}))),
    )
    for factor in "AB":
        yield (
            f"no {factor} in one layer",
            "factor_missing",
            weights(_spoiled(**{name(LAST, factor): DROPPED})),
        )
    for title, shape in {
        "a vector": (12,),
        "a convolution": (RANK, D_IN, 1, 1),
        "a number": (),
        "no rows": (0, 6),
    }.items():
        yield f"A is {title}", "not_a_matrix", weights(_spoiled(**{name(FIRST, "A"): tensor(*shape)}))
    for title, changes in {
        "A of rank 3": {name(FIRST, "A"): tensor(3, D_IN)},
        "B of rank 3": {name(LAST, "B"): tensor(D_OUT, 3)},
        "both of rank 3": {name(LAST, "A"): tensor(3, D_IN), name(LAST, "B"): tensor(D_OUT, 3)},
        "A transposed": {name(FIRST, "A"): tensor(D_IN, RANK)},
        "B transposed": {name(FIRST, "B"): tensor(RANK, D_OUT)},
    }.items():
        yield title, "rank_mismatch", weights(_spoiled(**changes))
    yield from _value_cases()


def _with_layer(path: str, d_out: int = D_OUT, d_in: int = D_IN) -> dict[str, object]:
    return _spoiled(**{name(path, "A"): tensor(RANK, d_in), name(path, "B"): tensor(d_out, RANK)})


def _value_cases() -> Iterator[tuple[str, str, bytes]]:
    for dtype in ("F32", "F16", "BF16"):
        for title, value in {"NaN": NAN, "infinity": INFINITY, "minus infinity": -INFINITY}.items():
            first = dict(plain_tensors(dtype))
            first[name(FIRST, "A")] = dtype, (RANK, D_IN), floats([value] + [0.5] * 11, dtype)
            yield f"{title} first of all, {dtype}", "not_finite", weights(first)
            last = dict(plain_tensors(dtype))
            last[name(LAST, "B")] = dtype, (D_OUT, RANK), floats([0.5] * 7 + [value], dtype)
            yield f"{title} last of all, {dtype}", "not_finite", weights(last)
    for dtype in ("F32", "BF16"):
        large = dict(plain_tensors(dtype))
        large[name(LAST, "B")] = dtype, (D_OUT, RANK), floats([0.5] * 7 + [-70_000.0], dtype)
        yield f"a value of -70,000, {dtype}", "value_too_large", weights(large)


def _base_cases() -> Iterator[tuple[str, str, bytes, bytes]]:
    """Right alone, wrong for the base it names."""
    plain = config()
    expert = _with_layer("encoder.block.0.mlp.experts.0.q")
    yield "an expert's layer", "moe_experts", plain, weights(expert)
    for router in ("gate", "router"):
        layer = _with_layer(f"encoder.block.0.mlp.{router}")
        yield f"the {router} that chooses experts", "moe_experts", plain, weights(layer)
    dora = config(use_dora=True)
    yield "DoRA without magnitudes", "magnitude_missing", dora, weights()
    yield "a layer more", "layer_not_in_base", plain, weights(_with_layer("encoder.block.9.q"))
    yield "a wider layer", "base_shape_mismatch", plain, weights(_with_layer(LAST, D_OUT, D_IN + 1))
    yield "a taller layer", "base_shape_mismatch", plain, weights(_with_layer(LAST, D_OUT + 1, D_IN))
    yield "a layer missing", "layer_missing", plain, weights(plain_tensors(paths=TARGETED[:-1]))
    yield "half of the decoder", "layer_missing", plain, weights(plain_tensors(paths=TARGETED[:4]))


HEAD_COPY = "base_model.model.lm_head.base_layer.weight"
EMBEDDING_COPY = "base_model.model.shared.weight"
OWN = tensor(32, D_IN, fill=0.25)
OWN_WEIGHTS = base_weights({"shared.weight": OWN, f"{FIRST}.weight": tensor(D_OUT, D_IN)})


def _copy_cases() -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Title, code, tensors: one of them looks like a copy of the base's own, and cannot be left out."""
    for title, code, key in (
        ("the head", "base_weights_inside", HEAD_COPY),
        ("the embedding", "embeddings_saved", EMBEDDING_COPY),
    ):
        for change, spoiled in (
            ("another number", ("F32", (32, D_IN), floats([0.25] * (32 * D_IN - 1) + [0.5]))),
            ("another shape", tensor(D_IN, 32, fill=0.25)),
        ):
            yield f"of {title} with {change}", code, plain_tensors() | {key: spoiled}
    layer = {f"base_model.model.{FIRST}.weight": tensor(D_OUT, D_IN)}
    yield "of a layer, which peft never writes", "tensor_not_lora", plain_tensors() | layer
    yield "without peft's prefix", "full_model", plain_tensors() | {"shared.weight": OWN}
    yield "and no LoRA", "no_tensors", {HEAD_COPY: OWN}


def weights_cases() -> Iterator[Case]:
    for title, code, data in (*_header_cases(), *_tensor_cases()):
        yield Case(f"weights: {title}", code, weights=data)
        if code in ("weights_truncated", "trailing_bytes", "tensor_not_lora"):
            yield Case(f"weights for a known base: {title}", code, weights=data, base_known=True)
    for title, code, written, data in _base_cases():
        yield Case(f"base: {title}", code, written, data, base_known=True)
    for title, code, tensors in _copy_cases():
        yield Case(f"copy: {title}", code, weights=weights(tensors), base_weights=OWN_WEIGHTS)


def harmless_cases() -> Iterator[Case]:
    """What looks odd and must pass."""
    for key, value in {
        "enable_lora": None,
        "merge_weights": False,
        "task_type": "TaskType.SEQ_2_SEQ_LM",
        "peft_type": None,
        "revision": "refs/pr/1",
        "use_rslora": True,
        "fan_in_fan_out": True,
        "lora_alpha": 0.5,
        "init_lora_weights": "gaussian",
        "loftq_config": {"loftq_bits": 4},
        "corda_config": {"cache_file": "/etc/passwd"},
        "lora_ga_config": {"direction": "ArB2r"},
        "modules_to_save": [],
        "runtime_config": {"ephemeral_gpu_offload": False},
        "exclude_modules": "(a+)+$",
        "layers_pattern": "(a+)+$",
        "layers_to_transform": [0, 1],
        "eva_config": {"rho": 2.0},
        "rank_pattern": {"(a+)+$": 2},
        "alpha_pattern": {"^encoder.block.0.layer.0.SelfAttention.q": 8},
        "tomorrow_config": None,
        "use_tomorrow": False,
        "peft_version": "0.17.2.dev0@UNKNOWN",
        "inference_mode": None,
        "qalora_group_size": 16,
        "megatron_core": "megatron.core",
        "target_modules": ["v", "SelfAttention.q", "q"],
        "base_model_name_or_path": "gpt2",
        "auto_mapping": {"base_model_class": "T5ForConditionalGeneration",
                         "parent_library": "transformers.models.t5.modeling_t5", "unsloth_fixed": True},
    }.items():  # fmt: skip
        yield Case(f"config: {key} = {value}", "", config(**{key: value}), base_known=True)
    yield Case("config: no peft_type", "", config(peft_type=DROPPED), base_known=True)
    for key in (HEAD_COPY, EMBEDDING_COPY):
        with_copy = weights(plain_tensors() | {key: OWN})
        yield Case(f"a copy: {key}", "", weights=with_copy, base_weights=OWN_WEIGHTS)
    for value in (None, DROPPED, ".*\\.[qv]", "(a+)+$", "all-linear", ["q"], ["q", "v", "wi"]):
        written = "nothing" if value is DROPPED else repr(value)
        yield Case(f"targets: {written}", "", config(target_modules=value), base_known=True)
    for value in ("eva", "orthogonal"):
        yield Case(f"init: {value}", "", config(init_lora_weights=value), base_known=True)
    one_half = {**plain_tensors(), name(FIRST, "A"): tensor(RANK, D_IN, dtype="F16")}
    yield Case("two dtypes", "", weights=weights(one_half), base_known=True)
    for part in ("_orig_mod.", "module.", "base_model.model."):
        wrapped = {f"{part}{key}": value for key, value in plain_tensors().items()}
        yield Case(f"names with {part} in front", "", weights=weights(wrapped), base_known=True)
    yield Case("a config of a peft without a version", "", config(peft_version=None))
    for dtype in ("F32", "F16", "BF16"):
        yield Case(f"weights in {dtype}", "", weights=weights(plain_tensors(dtype)), base_known=True)
    yield Case("metadata of peft", "", weights=weights(metadata={"format": "pt"}), base_known=True)
    yield Case("an unknown base", "", config(base_model_name_or_path="someone/else"))
    padded = json.dumps(described(plain_tensors())).encode() + b" " * 64
    yield Case("a padded header", "", weights=assembled(padded, data_of(plain_tensors())))
    largest = {**plain_tensors(), name(LAST, "B"): ("F32", (D_OUT, RANK), floats([65_504.0] * 8))}
    yield Case("the largest half-precision number", "", weights=weights(largest))
    backwards = dict(reversed(described(plain_tensors()).items()))
    yield Case("a header in another order", "", weights=assembled(backwards, data_of(plain_tensors())))


HOSTILE = [*config_cases(), *weights_cases()]
HARMLESS = list(harmless_cases())

assert set(TARGETED) < set(BASE_SHAPES)
assert len({case.name for case in HOSTILE + HARMLESS}) == len(HOSTILE + HARMLESS)
