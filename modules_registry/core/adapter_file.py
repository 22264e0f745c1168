"""Read a safetensors file by hand: its header strictly, its tensors one at a time.

The layout: 8 bytes little-endian N, then N bytes of JSON {name: {dtype, shape, data_offsets}}, then the
tensors' bytes back to back. Nothing here trusts the header before it has been held against the file.
"""

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from modules_registry.core.errors import ConfigRefusal, WeightsRefusal
from modules_registry.core.strict_json import JsonRefusal, parse_object, quote_value

WeightsSource = Path | BinaryIO
FileRefusal = ConfigRefusal | WeightsRefusal
Array = npt.NDArray[Any]

HEADER_BYTES_MAX = 2 * 1024**2  # 10,000 tensors of a large model need about 1.8 MB
TENSORS_MAX = 10_000
DIMENSIONS_MAX = 8
HEADER_DEPTH_MAX = 3  # {name: {"shape": [ … ]}}
PIECE_BYTES = 1024**2  # divisible by every item size
LENGTH_BYTES = 8
BEGINNING_BYTES = 128  # enough to tell other formats

ADAPTER_ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
# What the files of a base model may also hold: buffers of positions, masks, quantised weights.
BASE_ITEM_BYTES: Mapping[str, int] = {
    **ADAPTER_ITEM_BYTES,
    **{"F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
STORED_AS: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
CONVERT_HINT = "Save the adapter again with safe_serialization=True, peft's default."


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it; offsets count from the first byte of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """All tensors of a file, in the order of their bytes."""

    tensors: tuple[TensorEntry, ...]
    data_start: int  # where the tensors' bytes begin in the file
    size_bytes: int  # of the whole file


@contextmanager
def open_weights(source: WeightsSource, refusal: type[FileRefusal] = WeightsRefusal) -> Iterator[BinaryIO]:
    """Open a path that names a regular file, or pass on a file that is open already.

    A link could lead anywhere and a FIFO blocks for ever, so neither is followed.
    """
    with _open_regular(source, refusal) if isinstance(source, Path) else nullcontext(source) as file:
        yield file


def size_of(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def read_header(
    file: BinaryIO, item_bytes: Mapping[str, int] = ADAPTER_ITEM_BYTES, *, size_bytes: int | None = None
) -> Header:
    """Read and check the header: what it promises is what the file holds, byte for byte.

    Args:
        size_bytes: of the whole file, where `file` holds only its beginning.
    """
    if size_bytes is None:
        size_bytes = size_of(file)
    file.seek(0)
    _refuse_other_formats(file.read(BEGINNING_BYTES))
    file.seek(0)
    header_bytes = _header_length(file.read(LENGTH_BYTES), size_bytes)
    described = _parse(file.read(header_bytes))
    data_start = LENGTH_BYTES + header_bytes
    _check_metadata(described.pop("__metadata__", {}))
    tensors = [_entry(name, entry, item_bytes) for name, entry in described.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _check_coverage(tensors, size_bytes - data_start)
    return Header(tuple(tensors), data_start, size_bytes)


def iterate_tensors(source: WeightsSource) -> Iterator[tuple[str, Array]]:
    """Yield (name, array) one at a time, in the order of the file; bfloat16 comes widened to float32."""
    with open_weights(source) as file:
        header = read_header(file)
        for tensor in header.tensors:
            yield tensor.name, read_tensor(file, header, tensor)


def read_tensor(file: BinaryIO, header: Header, tensor: TensorEntry) -> Array:
    """Read one tensor of an adapter file."""
    file.seek(header.data_start + tensor.begin)
    data = _read_exactly(file, tensor.end - tensor.begin)
    stored = np.frombuffer(data, dtype=STORED_AS[tensor.dtype]).reshape(tensor.shape)
    return _widen(stored) if tensor.dtype == "BF16" else stored


def sha256_of(source: WeightsSource) -> str:
    """The sha256 of a whole file, read in pieces."""
    digest = hashlib.sha256()
    with open_weights(source) as file:
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def pieces_of(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    """The bytes from begin to end, in pieces of at most 1 MiB that hold whole items."""
    file.seek(begin)
    for start in range(begin, end, PIECE_BYTES):
        yield _read_exactly(file, min(PIECE_BYTES, end - start))


def _open_regular(path: Path, refusal: type[FileRefusal]) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refusal("not_a_file", "The file cannot be opened. Upload it again.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refusal("not_a_file", "This is not a regular file. Upload the file itself.")
    return os.fdopen(descriptor, "rb")


def _header_length(start: bytes, size_bytes: int) -> int:
    if len(start) < LENGTH_BYTES:
        raise WeightsRefusal("weights_truncated", "The file is too short to be safetensors. Upload it again.")
    length = int.from_bytes(start, "little")
    if length > HEADER_BYTES_MAX:
        raise WeightsRefusal(
            "header_too_large",
            f"The header claims {length:,} bytes; at most {HEADER_BYTES_MAX:,} are accepted. {CONVERT_HINT}",
        )
    if LENGTH_BYTES + length > size_bytes:
        raise WeightsRefusal("weights_truncated", "The file ends inside its header. Upload it again.")
    return length


# How files begin that people take for adapters, and what to say of them.
OTHER_FORMATS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"version ",), "weights_lfs_pointer",
     "This is a Git LFS pointer, not the weights. Run git lfs pull and upload the real file."),
    ((b"GGUF",), "weights_gguf",
     "This is a GGUF file, for llama.cpp. Upload the adapter as peft saved it, in safetensors."),
    ((b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "weights_web_page",
     "This is a web page, not the weights: the download was one. Download the file itself and upload that."),
)  # fmt: skip
TORCH_ARCHIVE = b"data.pkl"  # a part of the name of the first entry in a file of torch.save
PICKLE_BEGINNINGS = (b"\x80\x02", b"\x80\x03", b"\x80\x04")
ZIP_BEGINNING = b"PK\x03\x04"


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins so is a checkpoint of torch.save, the older kind or today's."""
    return start.startswith(PICKLE_BEGINNINGS) or (start.startswith(ZIP_BEGINNING) and TORCH_ARCHIVE in start)


def _refuse_other_formats(start: bytes) -> None:
    for beginnings, code, message in OTHER_FORMATS:
        if start.startswith(beginnings):
            raise WeightsRefusal(code, message)
    if is_pickle(start):
        raise WeightsRefusal("weights_pickle", f"This is a PyTorch pickle, not safetensors. {CONVERT_HINT}")
    if start.startswith(ZIP_BEGINNING):
        raise WeightsRefusal(
            "weights_zip", "This is a ZIP archive. Unpack it and upload the files in it, one by one."
        )


def _parse(data: bytes) -> dict[str, Any]:
    if not data.startswith(b"{"):
        raise WeightsRefusal("header_not_json", f"The header does not begin with a brace. {CONVERT_HINT}")
    try:
        described = parse_object(data, depth_max=HEADER_DEPTH_MAX)
    except JsonRefusal as refusal:
        raise WeightsRefusal(f"header_{refusal.problem}", f"In the header: {refusal.message}") from refusal
    if len(described) > TENSORS_MAX:
        raise WeightsRefusal(
            "too_many_tensors", f"It holds {len(described):,} tensors; at most {TENSORS_MAX:,} are accepted."
        )
    return described


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsRefusal("header_metadata", f"Its metadata must map text to text. {CONVERT_HINT}")


def _entry(name: str, entry: object, item_bytes: Mapping[str, int]) -> TensorEntry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsRefusal(
            "header_entry", f"The header's entry for {quote_value(name)} is malformed. {CONVERT_HINT}"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in item_bytes:
        raise WeightsRefusal(
            "dtype_not_allowed",
            f"{quote_value(name)} is stored as {quote_value(dtype)}. "
            f"Convert it to one of {', '.join(item_bytes)}.",
        )
    if not _is_sizes(shape) or len(shape) > DIMENSIONS_MAX:
        raise WeightsRefusal(
            "header_shape", f"The shape of {quote_value(name)} is not a list of sizes. {CONVERT_HINT}"
        )
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise WeightsRefusal(
            "header_offsets", f"The offsets of {quote_value(name)} are not two numbers. {CONVERT_HINT}"
        )
    begin, end = offsets
    if end - begin != math.prod(shape) * item_bytes[dtype]:
        raise WeightsRefusal(
            "shape_against_bytes",
            f"{quote_value(name)} of shape {quote_value(shape)} in {dtype} does not fill its "
            f"{end - begin:,} bytes. Save the adapter again.",
        )
    return TensorEntry(name, dtype, tuple(shape), begin, end)


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_coverage(tensors: list[TensorEntry], data_bytes: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.begin < position:
            raise WeightsRefusal(
                "tensors_overlap", f"{quote_value(tensor.name)} overlaps another tensor. Save it again."
            )
        if tensor.begin > position:
            raise WeightsRefusal(
                "tensors_gap", f"Before {quote_value(tensor.name)} lie bytes of no tensor. Save it again."
            )
        position = tensor.end
    _require_last_tensor(position, data_bytes)
    if position < data_bytes:
        raise WeightsRefusal("trailing_bytes", "Bytes follow the last tensor. Save the adapter again.")


def _require_last_tensor(end: int, data_bytes: int) -> None:
    if end > data_bytes:
        raise WeightsRefusal("weights_truncated", "The file ends before its last tensor. Upload it again.")


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise WeightsRefusal("weights_truncated", "The file ended while it was read. Upload it again.")
    return data


def _widen(bfloat16: Array) -> Array:
    """A bfloat16 is the upper half of a float32."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
