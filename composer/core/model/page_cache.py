"""Freeing the memory pages of a weights file that the process no longer reads.

safetensors maps a file into memory. `release_pages` drops the pages of one tensor from this process, once
the tensor was copied to another layout. Linux only.
"""

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

MAPPINGS = Path("/proc/self/maps")  # Linux only; elsewhere no pages are dropped


def release_pages(view: Tensor) -> None:
    """Drop the pages of the file behind this tensor from the memory of this process.

    They stay in the system's page cache for the next process. Anything written to the tensor is lost. A
    tensor that is not a view of a file stays as it is.
    """
    start, end = view.data_ptr(), view.data_ptr() + view.numel() * view.element_size()
    if not MAPPINGS.exists() or not lies_in_file(start, end):
        return
    page = mmap.PAGESIZE
    start, end = -(-start // page) * page, end // page * page  # whole pages: others hold other tensors too
    if start < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def lies_in_file(start: int, end: int) -> bool:
    """Return whether the addresses from `start` to `end`, in bytes, belong to one mapping of a file."""
    for line in MAPPINGS.read_text().splitlines():
        addresses, _access, _offset, _device, inode, *_path = line.split()
        low, high = (int(address, 16) for address in addresses.split("-"))
        if low <= start and end <= high:
            return inode != "0"
    return False
