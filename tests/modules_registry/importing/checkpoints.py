"""adapter_model.bin files: as torch writes them, and as someone with bad intentions would."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

KEY = "base_model.model.encoder.block.0.layer.0.SelfAttention.{target}.lora_{factor}.weight"


def lora(rank: int = 2, width: int = 8, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
    """A LoRA on q and v of one layer, with the names that peft gives."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"A": (rank, width), "B": (width, rank)}
    return {
        KEY.format(target=target, factor=factor): torch.randn(shape, generator=random).to(dtype)
        for target in "qv"
        for factor, shape in shapes.items()
    }


def saved(content: Any, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


class Harmful:
    def __reduce__(self):
        return os.system, ("touch /tmp/harmed",)


def rewritten(
    data: bytes, change: Callable[[list[tuple[str, bytes]]], None], *, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """The same zip archive after `change` has had its way with its entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    change(entries)
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # two entries of one name are what we want
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def with_index(data: bytes, pickled: bytes) -> bytes:
    """The archive with another data.pkl."""

    def change(entries):
        entries[:] = [(name, pickled if name.endswith("/data.pkl") else old) for name, old in entries]

    return rewritten(data, change)


def doubled_index(times: int = 40) -> bytes:
    """A few hundred bytes of memo that stand for 2**times values."""
    steps = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times))
    return b"\x80\x02}X\x01\x00\x00\x00aK\x01" + steps + b"s."


def stride_zero() -> dict[str, Any]:
    return {name: torch.zeros(1).expand(2_000_000, 2_000_000) for name in lora()}


def same_numbers_again() -> dict[str, Any]:
    """A thousand names for the same storage."""
    tensor = torch.zeros(1000, 1000)
    return {f"base_model.model.layer.{i}.lora_A.weight": tensor for i in range(1000)}


def torchscript() -> bytes:
    def change(entries):
        folder = entries[0][0].partition("/")[0]
        entries.append((f"{folder}/code/__torch__.py", b"def forward(self): pass"))
        entries.append((f"{folder}/constants.pkl", b"\x80\x02)."))

    return rewritten(saved(lora()), change)


def two_indexes() -> bytes:
    def change(entries):
        folder = entries[0][0].partition("/")[0]
        entries.append((f"{folder}/data.pkl", pickle.dumps(Harmful(), 2)))

    return rewritten(saved(lora()), change)


def index_of_another_folder() -> bytes:
    return rewritten(saved(lora()), lambda entries: entries.append(("other/data.pkl", b"\x80\x02}.")))


def big_endian() -> bytes:
    def change(entries):
        entries[:] = [(name, b"big" if name.endswith("byteorder") else old) for name, old in entries]

    return rewritten(saved(lora()), change)


def short_storage() -> bytes:
    def change(entries):
        entries[:] = [(name, old[:-4] if name.endswith("data/0") else old) for name, old in entries]

    return rewritten(saved(lora()), change)


def claims_more(data: bytes) -> bytes:
    """A tensor whose shape reaches beyond its storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        index = next(archive.read(info) for info in archive.infolist() if info.filename.endswith("data.pkl"))
    return with_index(
        data,
        index.replace(b"K\x02K\x08\x86", b"K\x03K\x08\x86", 1).replace(b"K\x08K\x01\x86", b"K\x08K\x01\x86"),
    )


# name -> the bytes, and the code of the refusal
def with_first_entry(data: bytes, offset: int, value: bytes) -> bytes:
    """The archive with other bytes at this place of what its directory says of the first entry."""
    place = data.index(b"PK\x01\x02") + offset
    return data[:place] + value + data[place + len(value) :]


def attacks() -> dict[str, tuple[bytes, str]]:
    plain, first = saved(lora()), next(iter(lora()))
    return {
        "code in a zip": (saved({first: Harmful()}), "checkpoint_code"),
        "code in the older format": (saved({first: Harmful()}, legacy=True), "checkpoint_code"),
        "code in a bare pickle": (pickle.dumps(Harmful(), 2), "checkpoint_code"),
        "code by protocol 4": (pickle.dumps(Harmful(), 4), "checkpoint_not_plain"),
        "code as text": (b"cposix\nsystem\n(S'id'\ntR.", "checkpoint_code"),
        "compressed entries": (
            rewritten(plain, lambda _: None, compression=zipfile.ZIP_DEFLATED), "checkpoint_compressed",
        ),
        "strides of zero": (saved(stride_zero()), "checkpoint_strides"),
        "strides of zero, older format": (saved(stride_zero(), legacy=True), "checkpoint_strides"),
        "a transposed tensor": (saved({first: torch.zeros(8, 2).T}), "checkpoint_strides"),
        "doubling in the memo": (with_index(plain, doubled_index()), "checkpoint_not_flat"),
        "a thousand names for one tensor": (saved(same_numbers_again()), "checkpoint_shared"),
        "nested dictionaries": (saved({"model": lora()}), "checkpoint_not_flat"),
        "a list": (saved(list(lora().values())), "checkpoint_not_flat"),
        "a lone tensor": (saved(torch.zeros(2, 2)), "checkpoint_not_flat"),
        "nothing": (saved({}), "checkpoint_not_flat"),
        "whole numbers": (saved({first: torch.zeros(2, 8, dtype=torch.int64)}), "checkpoint_dtype"),
        "double precision": (saved({first: torch.zeros(2, 8, dtype=torch.float64)}), "checkpoint_dtype"),
        "complex numbers": (saved({first: torch.zeros(2, 8, dtype=torch.complex64)}), "checkpoint_dtype"),
        "a sparse tensor": (saved({first: torch.eye(4).to_sparse()}), "checkpoint_code"),
        "an array of numpy": (saved({first: torch.zeros(2, 8).numpy()}), "checkpoint_code"),
        "TorchScript": (torchscript(), "checkpoint_torchscript"),
        "an encrypted entry": (with_first_entry(plain, 8, b"\x01"), "checkpoint_encrypted"),
        "an entry of two gigabytes": (
            with_first_entry(plain, 20, 2 * b"\xff\xff\xff\x7f"), "checkpoint_too_large",
        ),
        "two indexes": (two_indexes(), "checkpoint_ambiguous"),
        "an index of another folder": (index_of_another_folder(), "checkpoint_ambiguous"),
        "big-endian": (big_endian(), "checkpoint_byte_order"),
        "a storage cut short": (short_storage(), "checkpoint_storage"),
        "a shape beyond its storage": (claims_more(plain), "checkpoint_storage"),
        "an archive cut short": (plain[: len(plain) // 2], "checkpoint_truncated"),
        "an older file cut short": (saved(lora(), legacy=True)[:-5], "checkpoint_truncated"),
        "an older file that goes on": (saved(lora(), legacy=True) + b"more", "checkpoint_truncated"),
        "a foreign entry": (
            rewritten(plain, lambda entries: entries.append(("archive/../../etc/passwd", b""))),
            "checkpoint_entry",
        ),
        "a pickle of a dictionary": (pickle.dumps({"a": 1}, 2), "checkpoint_not_torch"),
        "JSON": (json.dumps({"a": 1}).encode(), "checkpoint_not_torch"),
        "no bytes": (b"", "checkpoint_not_torch"),
    }  # fmt: skip


# name -> the bytes of a file that must come through
def harmless() -> dict[str, bytes]:
    state = OrderedDict(lora())
    state._metadata = OrderedDict({"": {"version": 1}})
    whole = torch.randn(64)
    return {
        "a dictionary": saved(lora()),
        "the older format": saved(lora(), legacy=True),
        "half precision": saved(lora(dtype=torch.float16)),
        "bfloat16": saved(lora(dtype=torch.bfloat16)),
        "a module's state_dict": saved(state),
        "parameters": saved({name: torch.nn.Parameter(tensor) for name, tensor in lora().items()}),
        "parts of one storage": saved(
            {
                name: whole[16 * i : 16 * (i + 1)].view(tensor.shape)
                for i, (name, tensor) in enumerate(lora().items())
            }
        ),
        "rank 1": saved(lora(rank=1)),
        "many tensors": saved(
            {f"base_model.model.block.{i}.q.lora_A.weight": torch.randn(2, 4) for i in range(1500)}
        ),
    }
