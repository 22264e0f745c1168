"""The child's files as stored files: the adapter while the comparison runs, all of them at the end."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from django.db import transaction

from composer.core.spec.choices import ADAPTERS_FOLDER, KEPT_ADAPTERS
from composer.models import Composition, CompositionModule, ResultFile, SearchState
from composer.run.events import count_stage_times
from composer.run.evidence import record_composition
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from hub_site.jobs.sandbox import MIB
from hub_site.jobs.work import keep_lease
from modules_registry.blobs import delete_unnamed_blobs, store_files
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.storage import Blob

REPORT_FILE = "report.json"


ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)


RESULT_FILES = (*ADAPTER_FILES, REPORT_FILE)


RESULT_FOLDER = "out"


RESULT_FILE_MB_MAX = 2048
REPORT_BYTES_MAX = 64 * MIB


def delete_adapter(composition: Composition) -> None:
    """Who cancelled wants nothing of it."""
    hashes = set(composition.files.values_list("sha256", flat=True))
    composition.files.all().delete()
    delete_unnamed_blobs(hashes)


def keep_adapter(composition: Composition, out: Path) -> None:
    """The adapter's files, to be downloaded while the comparisons run; an earlier attempt's go."""
    with ExitStack() as stack:
        stack.enter_context(keep_lease(composition, hands_back=False))  # a shared store may be slow
        folder = open_result(stack, out)
        files = {path: open_plain(stack, folder, path) for path in ADAPTER_FILES}
        blobs = stack.enter_context(store_files(files, max_bytes=RESULT_FILE_MB_MAX * MIB))
        leases.append_events(composition, [])  # raises if it is not ours any more
        replace_files(composition, blobs)


def keep_result(composition: Composition, out: Path) -> None:
    """The files and the row in one transaction: DONE, the weights, the files. Only while it is ours."""
    report = read_report(out)
    weights = {module["name"]: module["weight"] for module in report["modules"]}
    modules = list(composition.modules.select_related("version__module"))
    for module in modules:
        module.weight = weights.get(module.name)
    with ExitStack() as stack:
        stack.enter_context(keep_lease(composition, hands_back=False))
        folder = open_result(stack, out)
        files = {path: open_plain(stack, folder, path) for path in RESULT_FILES}
        files |= open_baselines(stack, folder, report)
        blobs = stack.enter_context(store_files(files, max_bytes=RESULT_FILE_MB_MAX * MIB))
        leases.finish(composition, Status.DONE, report=report)
        count_stage_times(composition)
        CompositionModule.objects.bulk_update(modules, ["weight"])
        record_composition(composition, modules, report)
        SearchState.objects.filter(composition=composition).delete()
        replace_files(composition, blobs)


def read_report(out: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        text = open_plain(stack, open_result(stack, out), REPORT_FILE).read(REPORT_BYTES_MAX)
    report: dict[str, Any] = json.loads(text)  # broken where it is longer than any report
    return report


def replace_files(composition: Composition, blobs: Mapping[str, Blob]) -> None:
    """These are the composition's files, and no others."""
    earlier = set(composition.files.values_list("sha256", flat=True))
    composition.files.all().delete()
    ResultFile.objects.bulk_create(
        ResultFile(composition=composition, path=path, sha256=blob.sha256, size_bytes=blob.size_bytes)
        for path, blob in blobs.items()
    )
    if unused := earlier - {blob.sha256 for blob in blobs.values()}:
        transaction.on_commit(partial(delete_unnamed_blobs, unused))


def open_result(stack: ExitStack, out: Path) -> int:
    """The folder itself, which the child may rename while we read: it is `out` once all is done."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        folder = os.open(out, flags)
    except FileNotFoundError:
        folder = os.open(out.parent / RESULT_FOLDER, flags)
    stack.callback(os.close, folder)
    return folder


def open_baselines(stack: ExitStack, folder: int, report: Mapping[str, Any]) -> dict[str, BinaryIO]:
    """The files of the baselines' adapters that the report tells of, by their path in the result."""
    made = {row["key"] for row in report["baselines"] if row.get("adapter")}
    files: dict[str, BinaryIO] = {}
    for key in KEPT_ADAPTERS:
        if key in made:
            parent = open_folder(stack, folder, ADAPTERS_FOLDER)
            own = open_folder(stack, parent, key)
            files |= {
                f"{ADAPTERS_FOLDER}/{key}/{path}": open_plain(stack, own, path) for path in ADAPTER_FILES
            }
    return files


def open_folder(stack: ExitStack, parent: int, name: str) -> int:
    """A folder that a child made, and nothing that it may point at."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    stack.callback(os.close, folder)
    return folder


def open_plain(stack: ExitStack, folder: int, path: str) -> BinaryIO:
    """Open what a child wrote, and nothing that it may point at."""
    return stack.enter_context(os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb"))
