"""Write a safetensors file: the header, then the tensors' bytes back to back, in pieces."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import BinaryIO

from modules_registry.core.adapter_file import (
    ADAPTER_ITEM_BYTES,
    LENGTH_BYTES,
    TensorEntry,
    WeightsSource,
    open_weights,
    pieces_of,
    read_header,
)

ALIGNMENT_BYTES = 8  # where the tensors begin, as safetensors itself has it
METADATA = {"format": "pt"}  # what transformers and peft ask for


def entries_in_order(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> list[TensorEntry]:
    """Lay (name, dtype, shape) out one after the other."""
    entries, position = [], 0
    for name, dtype, shape in tensors:
        end = position + math.prod(shape) * ADAPTER_ITEM_BYTES[dtype]
        entries.append(TensorEntry(name, dtype, shape, position, end))
        position = end
    return entries


def header_bytes(entries: Sequence[TensorEntry]) -> bytes:
    """The beginning of a file with these tensors: 8 bytes of length, and the JSON."""
    described: dict[str, object] = {"__metadata__": METADATA}
    for entry in entries:
        described[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def rewrite_tensors(
    source: WeightsSource, names: Mapping[str, str], left_out: Collection[str], output: BinaryIO
) -> None:
    """Write the tensors but those left out under other names; a name that is not in `names` stays."""
    with open_weights(source) as file:
        header = read_header(file)
        kept = [entry for entry in header.tensors if entry.name not in left_out]
        described = ((names.get(entry.name, entry.name), entry.dtype, entry.shape) for entry in kept)
        output.write(header_bytes(entries_in_order(described)))
        for entry in kept:
            for piece in pieces_of(file, header.data_start + entry.begin, header.data_start + entry.end):
                output.write(piece)
