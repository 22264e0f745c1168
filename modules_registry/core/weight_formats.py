"""Which program's format weights have, as the names of their tensors show.

A whole header is not needed: the beginning of a file that a client or a page sends ahead of it is enough.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

LENGTH_BYTES = 8  # of a safetensors file, before its header
SAMPLE_BYTES = 16 * 1024  # of a file's beginning; its first tensors have told their kind by then
SAMPLES_MAX = 8  # files of a folder of which the beginnings are looked at, those nearest to its top
KOHYA_METADATA = b'"ss_'  # how keys of its metadata begin, which stand before the tensors' names
# A name in a header, before what it says of the tensor.
NAME = re.compile(rb'"((?:[^"\\]|\\.){1,500})"\s*:\s*\{\s*"(?:dtype|shape|data_offsets)"')
KOHYA_SIGNS = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", ".lora_down.", ".lora_up.")
DIFFUSERS_BEGINNINGS = (
    *("unet.", "transformer.transformer_blocks.", "transformer.single_", "text_encoder.", "text_encoder_2."),
)
MEGATRON = re.compile(r"\bdecoder\.layers\.\d+\.(?:self_attention|mlp)\.linear_")
PEFT = re.compile(r"\bbase_model\.model\..*\.lora_[AB]\.")


@dataclass(frozen=True)
class WeightFormat:
    """A format that weights can have.

    Attributes:
        code: of the refusal that says so; empty for peft's own.
        what: a file of it is.
        has: whether a tensor of this name is of it.
    """

    code: str
    what: str
    has: Callable[[str], bool]


def is_kohya(name: str) -> bool:
    return any(sign in f".{name}" for sign in KOHYA_SIGNS)


def is_diffusers(name: str) -> bool:
    return name.startswith(DIFFUSERS_BEGINNINGS)


def is_mlx(name: str) -> bool:
    return name.endswith((".lora_a", ".lora_b"))


def is_megatron(name: str) -> bool:
    return MEGATRON.search(name) is not None


def is_of_whole_model(name: str) -> bool:
    return (
        "lora" not in name.lower() and not name.startswith("base_model.model.") and name.endswith(".weight")
    )


ADAPTER_OF_PEFT = WeightFormat("", "an adapter of peft", lambda name: PEFT.search(name) is not None)
# The first that a file has counts.
FORMATS = (
    WeightFormat("kohya_format", "in kohya's format, for image models", is_kohya),
    WeightFormat("diffusers_format", "a LoRA of diffusers, for image models", is_diffusers),
    WeightFormat("mlx_format", "an MLX adapter", is_mlx),
    WeightFormat("megatron_format", "an adapter with the layers of Megatron", is_megatron),
    ADAPTER_OF_PEFT,
    WeightFormat("full_model", "a whole model", is_of_whole_model),
)


def is_of_other_program(name: str) -> bool:
    """Whether another program than peft gives a LoRA's tensor such a name."""
    return is_kohya(name) or is_diffusers(name) or is_mlx(name) or is_megatron(name)


def format_at(beginning: bytes) -> WeightFormat | None:
    """The format of a safetensors file that begins so, as far as it shows; None if it shows none.

    Args:
        beginning: the first bytes of the file, with its header or a part of it.
    """
    length = int.from_bytes(beginning[:LENGTH_BYTES], "little")
    header = beginning[LENGTH_BYTES : LENGTH_BYTES + length]
    names = names_in(header)
    for each in FORMATS:
        if any(each.has(name) for name in names):
            return each
    return next(each for each in FORMATS if each.code == "kohya_format") if KOHYA_METADATA in header else None


def names_in(header: bytes) -> Sequence[str]:
    """The tensors' names in a header, or in what is there of it."""
    names = []
    for match in NAME.finditer(header):
        with suppress(ValueError):
            names.append(str(json.loads(b'"%s"' % match[1])))
    return names
