"""Adapters made by hand, byte by byte: a plain one, and the means to spoil it in one place."""

import json
import math
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from io import BytesIO
from typing import Any

from modules_registry.core.base_weights import BaseWeights

RANK, D_IN, D_OUT = 2, 6, 4
TARGETED = [f"{half}.block.{block}.layer.0.SelfAttention.{name}" for half in ("encoder", "decoder")
            for block in (0, 1) for name in ("q", "v")]  # fmt: skip
OTHERS = {"encoder.block.0.layer.0.SelfAttention.k": [D_OUT, D_IN], "lm_head": [32, D_IN]}
BASE_SHAPES: dict[str, list[int]] = {path: [D_OUT, D_IN] for path in TARGETED} | OTHERS

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I8": 1, "U8": 1, "BOOL": 1, "C64": 8}
DROPPED = object()

Tensor = tuple[str, tuple[int, ...], bytes]  # dtype, shape, data

PLAIN_CONFIG: dict[str, Any] = {
    "base_model_name_or_path": "google/flan-t5-large",
    "bias": "none",
    "lora_alpha": 4,
    "lora_dropout": 0.1,
    "peft_type": "LORA",
    "r": RANK,
    "revision": None,
    "target_modules": ["q", "v"],
    "task_type": "SEQ_2_SEQ_LM",
}


def config(**changes: Any) -> bytes:
    """The plain config with some keys changed, added or DROPPED."""
    merged = PLAIN_CONFIG | changes
    return json.dumps({key: value for key, value in merged.items() if value is not DROPPED}).encode()


def config_text(key: str, value: str) -> bytes:
    """The plain config with a value written as it stands: NaN, 10**400, a second key …"""
    rest = json.dumps({name: kept for name, kept in PLAIN_CONFIG.items() if name != key})
    return (rest[:-1] + f", {json.dumps(key)}: {value}}}").encode()


def tensor(*shape: int, dtype: str = "F32", fill: float = 0.5) -> Tensor:
    return dtype, shape, floats([fill] * math.prod(shape), dtype)


def floats(values: list[float], dtype: str = "F32") -> bytes:
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    if dtype in ("F32", "F16"):
        return struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'e'}", *values)
    return bytes(len(values) * ITEM_BYTES[dtype])


def name(path: str, factor: str) -> str:
    return f"base_model.model.{path}.lora_{factor}.weight"


def plain_tensors(dtype: str = "F32", paths: list[str] = TARGETED) -> dict[str, Tensor]:
    pairs = ((name(path, "A"), name(path, "B")) for path in paths)
    return {
        key: shape
        for a, b in pairs
        for key, shape in ((a, tensor(RANK, D_IN, dtype=dtype)), (b, tensor(D_OUT, RANK, dtype=dtype)))
    }


def described(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The header of a file with these tensors back to back."""
    header: dict[str, Any] = {}
    position = 0
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + len(data)]}
        position += len(data)
    return header


def assembled(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """A safetensors file of a header, right or wrong, and the bytes after it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def data_of(tensors: Mapping[str, Tensor]) -> bytes:
    return b"".join(data for _, _, data in tensors.values())


def weights(tensors: Mapping[str, Tensor] | None = None, metadata: Any = None) -> bytes:
    """A well-formed safetensors file."""
    tensors = plain_tensors() if tensors is None else tensors
    header = described(tensors)
    if metadata is not None:
        header["__metadata__"] = metadata
    return assembled(header, data_of(tensors))


def weights_with(**entry: Any) -> bytes:
    """The plain file, with the header's entry for its first tensor changed."""
    tensors = plain_tensors()
    header = described(tensors)
    header[next(iter(header))].update(entry)
    return assembled(header, data_of(tensors))


def base_weights(tensors: Mapping[str, Tensor]) -> BaseWeights:
    """Those of a base model whose head is its embedding, shared.weight."""
    files = b'{"model_type": "t5"}', weights(tensors)
    config_file, weights_file = (lambda data=data: nullcontext(BytesIO(data)) for data in files)
    return BaseWeights(config_file, [weights_file])
