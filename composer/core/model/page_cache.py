"""The pages of a file that was read where it lies, given back once nobody reads them any more."""

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

MAPPINGS = Path("/proc/self/maps")  # Linux only; elsewhere nothing is given back


def release_pages(view: Tensor) -> None:
    """Let the pages of a file that this tensor is a view of count for this process no longer.

    They stay in the system's cache, where the next process finds them. What was written to the view would
    be lost. A tensor that is no view of a file is left alone.
    """
    start, end = view.data_ptr(), view.data_ptr() + view.numel() * view.element_size()
    if not MAPPINGS.exists() or not lies_in_file(start, end):
        return
    page = mmap.PAGESIZE
    start, end = -(-start // page) * page, end // page * page  # whole pages: neighbours stay
    if start < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def lies_in_file(start: int, end: int) -> bool:
    """Whether these addresses are all of one file's."""
    for line in MAPPINGS.read_text().splitlines():
        addresses, _access, _offset, _device, inode, *_path = line.split()
        low, high = (int(address, 16) for address in addresses.split("-"))
        if low <= start and end <= high:
            return inode != "0"
    return False
