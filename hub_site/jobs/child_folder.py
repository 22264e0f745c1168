"""The folder that a child works in: how much it has put there, and its end, whatever is in it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512  # the unit of st_blocks, on every file system
ENTRIES_MAX = 20_000  # files and folders


@dataclass(frozen=True)
class FolderUse:
    size_bytes: int  # on the disk, without stored files that are linked into the folder
    has_too_many: bool  # more than ENTRIES_MAX; then the size is of a part


def measure_folder(folder: Path) -> FolderUse:
    """Read a folder that its child is changing meanwhile. Links are not followed."""
    size_bytes, entries, waiting = 0, 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > ENTRIES_MAX:
                        return FolderUse(size_bytes, has_too_many=True)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    size_bytes += own_bytes(entry)
        except FileNotFoundError:  # removed, or renamed, while we looked
            continue
        except OSError:  # so deep that its path is too long: no job makes that
            return FolderUse(size_bytes, has_too_many=True)
    return FolderUse(size_bytes, has_too_many=False)


def own_bytes(entry: "os.DirEntry[str]") -> int:
    found = entry.stat(follow_symlinks=False)
    is_stored = found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False)  # a child can make no link
    return 0 if is_stored else found.st_blocks * BLOCK_BYTES


@contextmanager
def new_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder for as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        yield folder
    finally:
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a child's folder. Harmless when it is gone; what cannot be removed stays."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # folders in folders, more than Python's own function can go down
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False)
