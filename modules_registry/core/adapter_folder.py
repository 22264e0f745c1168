"""A folder that should hold an adapter: whether it does, or what it holds instead and what to do."""

from collections.abc import Callable, Sequence
from pathlib import Path

from modules_registry.core.accepted_paths import UploadPlan, know_names_only, plan_upload
from modules_registry.core.adapter_file import HEADER_BYTES_MAX
from modules_registry.core.advice import WayIn
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, Findings, FolderRefusal

SAVED_BY_PEFT = "Name the folder that peft's save_pretrained wrote."


def plan_folder(folder: Path, way_in: WayIn) -> UploadPlan:
    """Which files of a folder of this machine are a module.

    Raises:
        GateRefusal: files of an adapter are missing.
    """
    if not folder.is_dir():
        raise FolderRefusal("folder_missing", f"There is no folder {folder}. {SAVED_BY_PEFT}")
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return plan_files(
        paths, f"The folder {folder}", way_in, beginning_of=lambda path: read_beginning(folder / path)
    )


def plan_files(
    paths: Sequence[str],
    holder: str,
    way_in: WayIn,
    *,
    beginning_of: Callable[[str], bytes] = know_names_only,
) -> UploadPlan:
    """Which of these files are a module.

    Args:
        paths: all files that are there.
        holder: what holds them, as the beginning of a sentence.

    Raises:
        GateRefusal: files of an adapter are missing.
    """
    findings = Findings()
    with findings.collect():
        plan = plan_upload(paths, way_in=way_in, beginning_of=beginning_of)
    said = {WEIGHTS_FILE} if findings.found else set[str]()  # what lies in the place of the weights
    for name in sorted({CONFIG_FILE, WEIGHTS_FILE} - set(paths) - said):
        findings.add(FolderRefusal("file_missing", f"{holder} has no {name}. {SAVED_BY_PEFT}"))
    findings.raise_all()
    return plan


def read_beginning(path: Path) -> bytes:
    """The first bytes of a file, with the header if it is one of weights."""
    with path.open("rb") as file:
        return file.read(HEADER_BYTES_MAX)
