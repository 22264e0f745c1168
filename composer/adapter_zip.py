"""A finished adapter as one file to download: what peft loads, the card, and the report."""

import hashlib
import shutil
import tempfile
import zipfile
from typing import BinaryIO

from composer.models import Composition, ResultFile
from composer.selectors import result_files, result_open
from hub_site.common.downloads import Download

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # zip's first moment: the same files always make the same bytes
READABLE = 0o644 << 16


def adapter_download(composition: Composition) -> Download:
    """The zip, written aside to an unnamed file: an adapter may be larger than memory should be."""
    files = list(result_files(composition))
    archive = write_zip(composition.slug, files)
    return Download(
        name=f"{composition.slug}.zip",
        sha256=digest(composition.slug, files),
        size_bytes=archive.seek(0, 2),
        open=lambda: archive,
    )


def digest(folder: str, files: list[ResultFile]) -> str:
    """What the zip is known by: the same files in the same folder are the same zip."""
    return hashlib.sha256((folder + "".join(file.path + file.sha256 for file in files)).encode()).hexdigest()


def write_zip(folder: str, files: list[ResultFile]) -> BinaryIO:
    """All in one folder, the one that the report's snippet loads: unpacking overwrites nothing beside it."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it once it is sent
    with zipfile.ZipFile(archive, "w") as target:  # stored, not deflated: weights do not shrink
        for file in files:
            entry = zipfile.ZipInfo(f"{folder}/{file.path}", LONG_AGO)
            entry.external_attr = READABLE
            with result_open(file) as source, target.open(entry, "w", force_zip64=True) as copy:
                shutil.copyfileobj(source, copy)
    return archive
