"""A file's pages, given back."""

import mmap
import platform
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from composer.core.model.page_cache import MAPPINGS, keep_freed_memory, lies_in_file, release_pages

N = 16 * mmap.PAGESIZE  # numbers, four bytes each

linux = pytest.mark.skipif(not MAPPINGS.exists(), reason="only Linux tells what lies where")


@pytest.fixture
def view(tmp_path: Path) -> Tensor:
    """Numbers that are read from their file where they lie."""
    save_file({"numbers": torch.arange(N).float()}, tmp_path / "numbers.safetensors")
    return load_file(tmp_path / "numbers.safetensors")["numbers"]


def resident_bytes(start: int) -> int:
    """What this process has in memory of the mapping around this address."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            low, high = (int(address, 16) for address in first.split("-"))
            found = low <= start < high
        elif found and first == "Rss:":
            return 1024 * int(rest[0])
    raise AssertionError("nothing lies there")


@linux
def test_pages_given_back_are_no_longer_counted_and_read_the_same_again(view: Tensor) -> None:
    expected = view.clone()  # reads every page
    before = resident_bytes(view.data_ptr() + mmap.PAGESIZE)

    release_pages(view)

    assert resident_bytes(view.data_ptr() + mmap.PAGESIZE) <= before - 4 * N + 2 * mmap.PAGESIZE
    assert torch.equal(view, expected)


@linux
def test_neighbours_in_the_file_keep_what_was_written_to_them(view: Tensor) -> None:
    view[:10], view[-10:] = -1.0, -2.0

    release_pages(view[10:-10])

    assert view[:10].tolist() == [-1.0] * 10
    assert view[-10:].tolist() == [-2.0] * 10


@linux
def test_a_tensor_that_is_no_view_of_a_file_is_left_alone() -> None:
    own = torch.ones(N)

    release_pages(own)

    assert not lies_in_file(own.data_ptr(), own.data_ptr() + 4)
    assert float(own.sum()) == N


def test_where_nothing_tells_what_lies_where_nothing_is_given_back(
    view: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("composer.core.model.page_cache.MAPPINGS", tmp_path / "no-such-file")
    view[:] = 3.0  # would be lost

    release_pages(view)

    assert float(view.sum()) == 3.0 * N


def faults() -> int:
    """How many new pages this process has asked for so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_the_memory_of_tensors_that_are_gone_serves_the_next_ones() -> None:
    keep_freed_memory()
    size = 2**21  # numbers, 8 MB

    def use() -> None:
        [torch.ones(size) for _ in range(6)]

    use()
    before = faults()
    for _ in range(5):
        use()
    assert faults() - before < 6 * 4 * size / mmap.PAGESIZE  # a fifth of what new pages would be
