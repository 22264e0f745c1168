"""Read adapter_model.bin, PyTorch's pickled checkpoint, without unpickling it, and write safetensors.

A pickle is a program, so no unpickler ever sees it. Its instructions are read one by one (pickletools only
decodes them) by a machine that knows the few that torch.save writes for a flat dictionary of tensors, and
that builds descriptions: which storage, where in it, which shape. Everything else is refused. The bytes of
the tensors are then copied from where the archive keeps them.

Formats: the zip archive of torch >= 1.6, its entries stored and not compressed, and the older sequence of
pickles followed by storages. Source: torch/serialization.py, _save and _legacy_save.

It reads a stranger's file all the same: run it through `convert`, in a limited process of its own.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from modules_registry.core.adapter_file import ADAPTER_ITEM_BYTES, TENSORS_MAX, open_weights, size_of
from modules_registry.core.adapter_writing import entries_in_order, header_bytes
from modules_registry.core.errors import LEGACY_FILE, WEIGHTS_FILE, CheckpointRefusal
from modules_registry.core.strict_json import quote_value

PICKLE_BYTES_MAX = 8 * 1024**2  # 10,000 tensors take about 2 MB
ENTRIES_MAX = TENSORS_MAX + 16
ZIP_BEGINNING = b"PK\x03\x04"
ENCRYPTED = 0x1  # a bit of a zip entry's flags
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what the first of the older format's pickles holds
LEGACY_PROTOCOL = 1001
COUNT_BYTES = 8  # in front of each of the older format's storages
PICKLE_PROTOCOLS = (2, 3)

# What torch writes beside data.pkl and data/0, data/1, …
HARMLESS_ENTRIES = frozenset(
    {"version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"}
)
SAVE_AGAIN = "Save the adapter again with peft's save_pretrained, as safetensors."


@dataclass(frozen=True)
class Global:
    """A name that a pickle asks for. It is compared and never looked up."""

    module: str
    name: str


ORDERED_DICT = Global("collections", "OrderedDict")
REBUILD_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = Global("torch._utils", "_rebuild_parameter")
STORAGE_DTYPES = {
    Global("torch", "FloatStorage"): "F32",
    Global("torch", "HalfStorage"): "F16",
    Global("torch", "BFloat16Storage"): "BF16",
}
KNOWN_GLOBALS = frozenset({ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *STORAGE_DTYPES})


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file."""

    key: str
    dtype: str
    count: int

    @property
    def size_bytes(self) -> int:
        return self.count * ADAPTER_ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class View:
    """A tensor: a contiguous part of a storage."""

    storage: Storage
    offset: int  # in numbers
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def bytes_of(self, data: bytes) -> bytes:
        item = ADAPTER_ITEM_BYTES[self.storage.dtype]
        return data[self.offset * item : (self.offset + self.count) * item]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: tensors by name, and how to get at a storage's bytes."""

    views: dict[str, View]
    read: Callable[[Storage], bytes]


def convert(folder: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Write adapter_model.safetensors beside `folder`/adapter_model.bin. The job of a limited child."""
    with open_weights(folder / LEGACY_FILE) as file, (folder / WEIGHTS_FILE).open("wb") as output:
        write_safetensors(read_checkpoint(file), output)
    on_event({"event": "done"})


def write_safetensors(checkpoint: Checkpoint, output: BinaryIO) -> None:
    """The same tensors in the same order. One storage is in memory at a time."""
    views = checkpoint.views
    output.write(
        header_bytes(entries_in_order((name, view.storage.dtype, view.shape) for name, view in views.items()))
    )
    storage, data = None, b""
    for view in views.values():
        if view.storage != storage:
            storage, data = view.storage, checkpoint.read(view.storage)
        output.write(view.bytes_of(data))


def read_checkpoint(file: BinaryIO) -> Checkpoint:
    """Say what a file holds, or raise a CheckpointRefusal. Nothing of it is executed."""
    file.seek(0)
    beginning = file.read(len(ZIP_BEGINNING))
    file.seek(0)
    return _read_zip(file) if beginning == ZIP_BEGINNING else _read_legacy(file)


# The zip archive ------------------------------------------------------


def _read_zip(file: BinaryIO) -> Checkpoint:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointRefusal(
            "checkpoint_truncated", "The archive is broken or cut short. Get it again."
        ) from error
    entries = _entries(archive, size_of(file))
    data = _entry_bytes(archive, entries["data.pkl"])
    views = _flat(Machine().run(BytesIO(data)))

    def read(storage: Storage) -> bytes:
        info = entries.get(f"data/{storage.key}")
        if info is None or info.file_size != storage.size_bytes:
            raise CheckpointRefusal(
                "checkpoint_storage", f"The numbers of storage {quote_value(storage.key)} are not all there."
            )
        return _entry_bytes(archive, info)

    return Checkpoint(views, read)


def _entries(archive: zipfile.ZipFile, size_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by their name inside its one folder, once each is what torch writes."""
    infos = archive.infolist()
    if len(infos) > ENTRIES_MAX or sum(info.file_size for info in infos) > size_bytes:
        raise CheckpointRefusal("checkpoint_too_large", "Its entries claim more than the file holds.")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _require_stored(info)
        name = info.filename.partition("/")[2]
        _require_known(name)
        if name in entries:
            raise CheckpointRefusal(
                "checkpoint_ambiguous", f"It holds {quote_value(name)} twice. {SAVE_AGAIN}"
            )
        entries[name] = info
    if "data.pkl" not in entries:
        raise CheckpointRefusal("checkpoint_not_torch", f"It is not a PyTorch checkpoint. {SAVE_AGAIN}")
    if "byteorder" in entries and _entry_bytes(archive, entries["byteorder"]) != b"little":
        raise CheckpointRefusal("checkpoint_byte_order", f"Its numbers are big-endian. {SAVE_AGAIN}")
    if entries["data.pkl"].file_size > PICKLE_BYTES_MAX:
        raise CheckpointRefusal("checkpoint_too_large", f"Its index is too large. {SAVE_AGAIN}")
    return entries


def _require_stored(info: zipfile.ZipInfo) -> None:
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise CheckpointRefusal(
            "checkpoint_compressed", f"Its entries are compressed, which torch never does. {SAVE_AGAIN}"
        )
    if info.flag_bits & ENCRYPTED:
        raise CheckpointRefusal("checkpoint_encrypted", f"Its entries are encrypted. {SAVE_AGAIN}")


def _require_known(name: str) -> None:
    folder, _, key = name.rpartition("/")
    if name == "data.pkl" or name in HARMLESS_ENTRIES or (folder == "data" and key.isdecimal()):
        return
    if name == "constants.pkl" or name.startswith("code/"):
        raise CheckpointRefusal(
            "checkpoint_torchscript", f"It is a TorchScript program, not an adapter. {SAVE_AGAIN}"
        )
    raise CheckpointRefusal(
        "checkpoint_entry", f"It holds {quote_value(name)}, which torch does not write. {SAVE_AGAIN}"
    )


def _entry_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise CheckpointRefusal(
            "checkpoint_truncated", "The archive is broken or cut short. Get it again."
        ) from error


# The older format ------------------------------------------------------


def _read_legacy(file: BinaryIO) -> Checkpoint:
    """Five pickles (magic number, protocol, the machine's sizes, tensors, keys), then the storages."""
    pickles = BytesIO(file.read(PICKLE_BYTES_MAX))
    magic = Machine().run(pickles)
    if magic != LEGACY_MAGIC or type(magic) is not int:
        raise CheckpointRefusal("checkpoint_not_torch", f"It is not a PyTorch checkpoint. {SAVE_AGAIN}")
    protocol, machine = Machine().run(pickles), Machine().run(pickles)
    if (
        protocol != LEGACY_PROTOCOL
        or not isinstance(machine, dict)
        or machine.get("little_endian") is not True
    ):
        raise CheckpointRefusal("checkpoint_byte_order", f"Its numbers are big-endian. {SAVE_AGAIN}")
    views, keys = _flat(Machine().run(pickles)), Machine().run(pickles)
    begins = _storage_begins(file, pickles.tell(), keys, views)

    def read(storage: Storage) -> bytes:
        file.seek(begins[storage.key])
        return file.read(storage.size_bytes)

    return Checkpoint(views, read)


def _storage_begins(file: BinaryIO, position: int, keys: Any, views: dict[str, View]) -> dict[str, int]:
    """Where each storage's numbers begin, once they fill the rest of the file exactly."""
    storages = {view.storage.key: view.storage for view in views.values()}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointRefusal("checkpoint_not_torch", f"It is not a PyTorch checkpoint. {SAVE_AGAIN}")
    if sorted(keys) != sorted(storages):
        raise CheckpointRefusal(
            "checkpoint_storage", f"Its storages are not those of its tensors. {SAVE_AGAIN}"
        )
    begins: dict[str, int] = {}
    for key in keys:
        file.seek(position)
        if int.from_bytes(file.read(COUNT_BYTES), "little") != storages[key].count:
            raise CheckpointRefusal(
                "checkpoint_storage", f"The numbers of storage {quote_value(key)} are not all there."
            )
        begins[key] = position + COUNT_BYTES
        position = begins[key] + storages[key].size_bytes
    if position != size_of(file):
        raise CheckpointRefusal(
            "checkpoint_truncated", "The file is cut short, or goes on too long. Get it again."
        )
    return begins


# What the pickle describes ------------------------------------------------------


def _flat(described: Any) -> dict[str, View]:
    """Require a flat dictionary of tensors that claim no more numbers than their storages hold."""
    if not isinstance(described, dict) or not described:
        raise CheckpointRefusal("checkpoint_not_flat", f"It holds no dictionary of tensors. {SAVE_AGAIN}")
    for name, value in described.items():
        if not isinstance(value, View):
            raise CheckpointRefusal(
                "checkpoint_not_flat",
                f"{quote_value(name)} in it is not a tensor. Save the LoRA weights alone.",
            )
    if len(described) > TENSORS_MAX:
        raise CheckpointRefusal("checkpoint_too_large", f"It holds more than {TENSORS_MAX:,} tensors.")
    _require_no_sharing(list(described.values()))
    return described


def _require_no_sharing(views: Sequence[View]) -> None:
    """Ten thousand tensors of one storage would be ten thousand copies of it."""
    by_storage: dict[str, list[View]] = {}
    for view in views:
        by_storage.setdefault(view.storage.key, []).append(view)
    for sharing in by_storage.values():
        if len({view.storage for view in sharing}) > 1:
            raise CheckpointRefusal("checkpoint_storage", f"A storage is described in two ways. {SAVE_AGAIN}")
        if sum(view.count for view in sharing) > sharing[0].storage.count:
            raise CheckpointRefusal(
                "checkpoint_shared", f"Several of its tensors are the same numbers. {SAVE_AGAIN}"
            )


def storage_of(identity: Any) -> Storage:
    """("storage", its class, key, device, count): torch's name for a run of numbers."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        not_plain("a reference that is no storage")
    _, kind, key, _, count, *view = identity
    if view not in ([], [None]) or not isinstance(key, str) or not _is_size(count):
        not_plain("a storage of an odd kind")
    dtype = STORAGE_DTYPES.get(kind) if isinstance(kind, Global) else None
    if dtype is None:
        not_plain("a storage of an odd kind")
    return Storage(key, dtype, count)


def tensor_of(arguments: tuple[Any, ...]) -> View:
    """The arguments of _rebuild_tensor_v2: storage, offset, shape, strides, requires_grad, hooks."""
    if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
        not_plain("a tensor without a storage")
    storage, offset, shape, strides = arguments[:4]
    if not _is_size(offset) or not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides):
        not_plain("a tensor of an odd shape")
    if not _is_contiguous(shape, strides):
        raise CheckpointRefusal(
            "checkpoint_strides", f"A tensor in it does not lie in one piece (strides). {SAVE_AGAIN}"
        )
    if offset + math.prod(shape) > storage.count:
        raise CheckpointRefusal(
            "checkpoint_storage",
            f"A tensor of shape {quote_value(shape)} reaches beyond its numbers. {SAVE_AGAIN}",
        )
    return View(storage, offset, shape)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 8 and all(map(_is_size, value))


def not_plain(what: str) -> NoReturn:
    raise CheckpointRefusal("checkpoint_not_plain", f"It holds more than tensors: {what}. {SAVE_AGAIN}")


# The machine ------------------------------------------------------

MARK = object()
PUSHED_AS_THEY_ARE = frozenset({"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK}


@dataclass
class Machine:
    """Pickle's stack and memo. Values are Python's own, Globals, Storages and Views; nothing is called."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, file: BinaryIO) -> Any:
        """Follow one pickle to its end; the file stands behind it then."""
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
            if isinstance(error, CheckpointRefusal):
                raise
            raise CheckpointRefusal(
                "checkpoint_not_torch", f"It is not a PyTorch checkpoint. {SAVE_AGAIN}"
            ) from error
        raise AssertionError("genops ends with STOP or raises")

    def step(self, name: str, argument: Any) -> None:
        if name in PUSHED_AS_THEY_ARE:
            self.stack.append(argument)
        elif name in PUSHED:
            self.stack.append(PUSHED[name])
        elif name in ACTIONS:
            ACTIONS[name](self, argument)
        else:
            not_plain(f"the pickle instruction {name}")

    def require_protocol(self, argument: int) -> None:
        if argument not in PICKLE_PROTOCOLS:
            not_plain(f"pickle protocol {argument}")

    def keep(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def fetch(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        found = Global(module, name)
        if found not in KNOWN_GLOBALS:
            if module == "torch" and name.endswith("Storage"):
                raise CheckpointRefusal(
                    "checkpoint_dtype",
                    f"It holds a {quote_value(name)}. Convert it to float32, float16 or bfloat16.",
                )
            raise CheckpointRefusal(
                "checkpoint_code",
                f"It asks to import {quote_value(f'{module}.{name}')}, as a harmful file would. {SAVE_AGAIN}",
            )
        self.stack.append(found)

    def since_mark(self) -> list[Any]:
        position = len(self.stack) - 1  # what is looked at here is taken off: all of it stays linear
        while position >= 0 and self.stack[position] is not MARK:
            position -= 1
        if position < 0:
            raise IndexError("no mark")
        values = self.stack[position + 1 :]
        del self.stack[position:]
        return values

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.stack.append(tuple(values))

    def extend(self, values: Sequence[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            not_plain("a list in an odd place")
        self.stack[-1].extend(values)

    def set_items(self, pairs: Sequence[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            not_plain("a dictionary in an odd place")
        for key, value in _pairs(pairs):
            if not isinstance(key, str):
                not_plain("a key that is no text")
            if key in target:
                raise CheckpointRefusal(
                    "checkpoint_ambiguous", f"It holds {quote_value(key)} twice. {SAVE_AGAIN}"
                )
            target[key] = value

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif function == REBUILD_TENSOR and isinstance(arguments, tuple):
            self.stack.append(tensor_of(arguments))
        elif function == REBUILD_PARAMETER and isinstance(arguments, tuple):
            self.stack.append(_parameter(arguments))
        else:
            not_plain("a call")

    def drop_state(self) -> None:
        """A module's state_dict carries the versions of its classes as an attribute: of no use here."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            not_plain("an object with a state")

    def refer(self) -> None:
        self.stack.append(storage_of(self.stack.pop()))


def _parameter(arguments: tuple[Any, ...]) -> View:
    if len(arguments) != 3 or not isinstance(arguments[0], View):
        not_plain("a parameter without a tensor")
    return arguments[0]


def _pairs(values: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _pop_two(machine: Machine) -> list[Any]:
    if len(machine.stack) < 3:
        raise IndexError("the stack is empty")
    values = machine.stack[-2:]
    del machine.stack[-2:]
    return values


ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": Machine.require_protocol,
    "GLOBAL": Machine.name,
    "BINPUT": Machine.keep,
    "LONG_BINPUT": Machine.keep,
    "BINGET": Machine.fetch,
    "LONG_BINGET": Machine.fetch,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of(0),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "SETITEM": lambda machine, _: machine.set_items(_pop_two(machine)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.drop_state(),
    "BINPERSID": lambda machine, _: machine.refer(),
}
