"""A base model's own weights, to tell whether a tensor beside a LoRA is only a copy of one of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from modules_registry.core.adapter_file import (
    BASE_ITEM_BYTES,
    STORED_AS,
    Array,
    Header,
    TensorEntry,
    open_weights,
    read_header,
)
from modules_registry.core.base_shapes import (
    WEIGHT_SUFFIX,
    base_files,
    base_shapes_of,
    loaded_tensors,
    read_base_config,
)
from modules_registry.core.errors import BaseModelRefusal

BaseShapes = Mapping[str, Sequence[int]]  # path of a linear layer -> d_out, d_in
ITEMS_AT_ONCE = 256 * 1024
OpenFile = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass
class BaseWeights:
    """The files of a base model; nothing is opened before something is compared."""

    config: OpenFile
    weights: Sequence[OpenFile]

    @cached_property
    def found(self) -> dict[str, tuple[OpenFile, Header, TensorEntry]]:
        """Where each parameter lies, by its name in the model as it loads."""
        places: dict[str, tuple[OpenFile, Header, TensorEntry]] = {}
        for source in self.weights:
            with source() as file:
                header = read_header(file, BASE_ITEM_BYTES)
            places |= {tensor.name: (source, header, tensor) for tensor in header.tensors}
        with self.config() as file:
            config = read_base_config(file)
        tensors = [tensor for _, _, tensor in places.values()]
        return {name: places[tensor.name] for name, tensor in loaded_tensors(config, tensors).items()}

    @property
    def paths(self) -> frozenset[str]:
        """The layers of the model as it loads, as far as they have weights; others of its parts, too."""
        return frozenset(name.removesuffix(WEIGHT_SUFFIX) for name in self.found)

    def has_copy(self, file: BinaryIO, header: Header, parameter: str | None, tensor: TensorEntry) -> bool:
        """Whether a tensor of an adapter's file has the values of this parameter, rounded to its dtype."""
        if parameter is None or parameter not in self.found:
            return False
        source, own_header, own = self.found[parameter]
        if own.shape != tensor.shape or own.dtype not in STORED_AS:
            return False
        count = (tensor.end - tensor.begin) // STORED_AS[tensor.dtype].itemsize
        with source() as own_file:
            return all(
                np.array_equal(
                    _items(file, header, tensor, start, end),
                    _in_dtype(_items(own_file, own_header, own, start, end), own.dtype, tensor.dtype),
                )
                for start, end in _portions(count)
            )


def read_base(folder: Path) -> tuple[BaseShapes, BaseWeights]:
    """The layers of a base model's folder, and its weights. A refusal names its file with the folder.

    Raises:
        BaseModelRefusal: it is no model's folder, or a file of it is damaged.
    """
    try:
        config, weights = base_files(folder)
        shapes = base_shapes_of(config.resolve(), [path.resolve() for path in weights])
        return shapes, weights_in(folder)
    except BaseModelRefusal as refusal:
        file = str(folder / refusal.file)
        raise BaseModelRefusal(refusal.code, refusal.message, file) from refusal


def weights_in(folder: Path) -> BaseWeights:
    """Those of a model's folder. A file may be a link, as in the cache of a Hub's client.

    Raises:
        BaseModelRefusal: it is no model's folder.
    """
    config, weights = base_files(folder)
    opened = [partial(open_weights, path.resolve()) for path in (config, *weights)]
    return BaseWeights(opened[0], opened[1:])


def _portions(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + ITEMS_AT_ONCE, count)) for start in range(0, count, ITEMS_AT_ONCE)]


def _items(file: BinaryIO, header: Header, tensor: TensorEntry, start: int, end: int) -> Array:
    """The numbers from start to end of a tensor as they are stored; bfloat16 as its bits."""
    stored = STORED_AS[tensor.dtype]
    file.seek(header.data_start + tensor.begin + start * stored.itemsize)
    return np.frombuffer(file.read((end - start) * stored.itemsize), dtype=stored)


def _in_dtype(numbers: Array, dtype: str, wanted: str) -> Array:
    """The numbers in another dtype as torch rounds them: to the nearest, to even where two are as near."""
    if dtype == wanted:
        return numbers
    if dtype == "BF16":
        wide: Array = (numbers.astype(np.uint32) << 16).view(np.float32)
    else:
        wide = numbers.astype(np.float32)
    if wanted == "BF16":
        bits = wide.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(STORED_AS["BF16"])
    with np.errstate(over="ignore"):
        return wide.astype(STORED_AS[wanted])
