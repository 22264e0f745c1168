"""A finished adapter as one file to download: what peft loads, the card, and the report."""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import BinaryIO

from composer.models import Composition, ResultFile
from composer.selectors import baseline_files, require_handed_out, result_files, result_open
from hub_site.common.downloads import Download
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # zip's first moment: the same files always make the same bytes
READABLE = 0o644 << 16
LOADED = (CONFIG_FILE, WEIGHTS_FILE)  # by peft
TextForReader = Callable[[ResultFile], str]


def adapter_download(composition: Composition) -> Download:
    """The zip, written aside to an unnamed file: an adapter may be larger than memory should be."""
    require_handed_out(composition)
    return zip_download(composition.slug, list(result_files(composition)), {})


def adapter_shared(composition: Composition, text_for_reader: TextForReader) -> Download:
    """The same zip for the reader of a link, with card and report as the reader may have them."""
    require_handed_out(composition)
    return shared_zip(composition.slug, list(result_files(composition)), text_for_reader)


def shared_files(composition: Composition) -> list[ResultFile]:
    """What peft loads, which is the same for every reader."""
    return list(result_files(composition).filter(path__in=LOADED))


def baseline_download(composition: Composition, key: str) -> Download | None:
    """The adapter of a baseline with its card; None where it has none."""
    require_handed_out(composition)
    files = list(baseline_files(composition, key))
    return zip_download(f"{composition.slug}-{key}", files, {}) if files else None


def baseline_shared(composition: Composition, key: str, text_for_reader: TextForReader) -> Download | None:
    """As `adapter_shared`, of a baseline; None where it has none."""
    require_handed_out(composition)
    files = list(baseline_files(composition, key))
    return shared_zip(f"{composition.slug}-{key}", files, text_for_reader) if files else None


def shared_zip(folder: str, files: list[ResultFile], text_for_reader: TextForReader) -> Download:
    """Every text in it, such as the adapter's own card, is written anew for the reader."""
    loaded = [file for file in files if file.path.rpartition("/")[2] in LOADED]
    texts = [file for file in files if file not in loaded]
    return zip_download(
        folder, loaded, {file.path.rpartition("/")[2]: text_for_reader(file).encode() for file in texts}
    )


def zip_download(folder: str, files: list[ResultFile], made: Mapping[str, bytes]) -> Download:
    archive = write_zip(folder, files, made)
    return Download(
        name=f"{folder}.zip",
        sha256=digest(folder, files, made),
        size_bytes=archive.seek(0, 2),
        open=lambda: archive,
    )


def digest(folder: str, files: list[ResultFile], made: Mapping[str, bytes]) -> str:
    """What the zip is known by: the same files in the same folder are the same zip."""
    sums = {file.path: file.sha256 for file in files}
    sums |= {path: hashlib.sha256(content).hexdigest() for path, content in made.items()}
    return hashlib.sha256((folder + "".join(path + sums[path] for path in sums)).encode()).hexdigest()


def write_zip(folder: str, files: list[ResultFile], made: Mapping[str, bytes]) -> BinaryIO:
    """All in one folder, the one that the report's snippet loads: unpacking overwrites nothing beside it."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it once it is sent
    with zipfile.ZipFile(archive, "w") as target:  # stored, not deflated: weights do not shrink
        for file in files:
            with result_open(file) as source:
                add_entry(target, f"{folder}/{file.path.rpartition('/')[2]}", source)
        for path, content in made.items():
            add_entry(target, f"{folder}/{path}", BytesIO(content))
    return archive


def add_entry(target: zipfile.ZipFile, name: str, source: BinaryIO) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.external_attr = READABLE
    with target.open(entry, "w", force_zip64=True) as copy:
        shutil.copyfileobj(source, copy)
