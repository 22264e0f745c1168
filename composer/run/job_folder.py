"""The folder a composition's child works in: made with all it needs, removed afterwards."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings

from composer import selectors
from composer.core.spec.examples import Example, json_lines
from composer.core.spec.job_spec import FIND_FILE, FittedWork, read_rank
from composer.matching.selection import module_text, remaining_selection
from composer.models import Composition, CompositionModule, ExampleSearch
from composer.run.selectors import screened_before, screened_losses, search_record
from hub_site.common.os_faults import ERRNOS_OF_A_FULL_DISK
from hub_site.jobs.child_folder import remove_folder
from hub_site.jobs.models import LEASE, Job, Status
from modules_registry.blobs import store
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import BaseModel, Version, VersionFile
from modules_registry.storage import StorageFullError

ANSWER_TOKENS = 32  # the longest answer of a module that is found by examples


@contextmanager
def job_folder(job: Job) -> Iterator[Path]:
    folder = jobs_folder() / f"{job.pk}-{job.generation}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        with raise_storage_full():
            yield folder
    finally:
        remove_folder(folder)


def jobs_folder() -> Path:
    return Path(settings.HUB_DATA) / "jobs"


@contextmanager
def raise_storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in ERRNOS_OF_A_FULL_DISK:
            raise StorageFullError from error
        raise


def write_job(composition: Composition, folder: Path, on_piece: Callable[[], None] = lambda: None) -> None:
    """Put everything the child needs into its folder: it has no database, store or network.

    Args:
        on_piece: called between two pieces of a large file; it may raise to end the work.
    """
    modules = list(composition.modules.select_related("version__module"))
    write_text(folder / "job.json", json.dumps(job_description(composition, modules), indent=1))
    write_text(folder / "examples.jsonl", json_lines(selectors.few_shot_examples(composition)))
    if held_out := selectors.held_out_examples(composition):
        write_text(folder / "held_out.jsonl", json_lines(held_out))
    fetch_base_and_modules(
        composition.base, {module_folder(module): module.version_id for module in modules}, folder, on_piece
    )


def write_search(
    search: ExampleSearch,
    versions: Mapping[int, Version],
    folder: Path,
    on_piece: Callable[[], None] = lambda: None,
) -> None:
    """The same for a search by examples.

    Args:
        versions: of the modules that are tried, by their keys.
        on_piece: as in `write_job`.
    """
    tried = [row for row in search.modules if row["version"] in versions]
    folders = {f"modules/{position}": row["version"] for position, row in enumerate(tried)}
    described = {
        "schema": 1,
        "base": {"name": search.base.name, "revision": search.base.revision},
        "max_new_tokens": ANSWER_TOKENS,
        "precision": "auto",
        "device": "auto",
        "modules": [
            {
                "name": row["name"],
                "folder": path,
                "sha256": versions[pk].weights_sha256,
                "template": versions[pk].prompt_template or None,
            }
            for row, (path, pk) in zip(tried, folders.items(), strict=True)
        ],
    }
    write_text(folder / "job.json", json.dumps(described))
    write_text(folder / "examples.jsonl", json_lines([Example(*pair) for pair in search.pairs]))
    (folder / FIND_FILE).touch()
    hashes = [version.weights_sha256 for version in versions.values()]
    known = screened_losses([Example(*pair) for pair in search.pairs], hashes, search.owner)
    write_lines(folder / "screened.jsonl", known)
    fetch_base_and_modules(search.base, folders, folder, on_piece)


def fetch_base_and_modules(
    base: BaseModel, modules: Mapping[str, int], folder: Path, on_piece: Callable[[], None]
) -> None:
    """Put the files of the base and of versions, by the folder of each, into the job's folder."""
    fetch_files(folder / "base", dict(base.files.values_list("path", "sha256")), on_piece)
    files: dict[int, dict[str, str]] = {}
    rows = VersionFile.objects.filter(version__in=set(modules.values()), path__in=(CONFIG_FILE, WEIGHTS_FILE))
    for version, path, sha256 in rows.values_list("version_id", "path", "sha256"):
        files.setdefault(version, {})[path] = sha256
    for path, version in modules.items():
        fetch_files(folder / path, files[version], on_piece)


def job_description(composition: Composition, modules: list[CompositionModule]) -> dict[str, Any]:
    select = remaining_selection(composition)
    return {
        "schema": 1,
        "method": composition.method,
        "search": composition.search,
        "objective": composition.objective,
        "select": select,
        "budget": composition.budget,
        "fits_time": True,
        "batch_size": composition.batch_size,
        "seed": composition.seed,
        "precision": composition.precision_found or composition.precision,
        "device": composition.device,
        "rank": read_rank({"rank": composition.rank}),
        "template": composition.template,
        "max_new_tokens": composition.max_new_tokens,
        "baselines": composition.baselines,
        "sentence": composition.sentence,
        "notes": composition.example_notes,
        "base": {"name": composition.base.name, "revision": composition.base.revision},
        "modules": [
            {
                "name": module.name,
                "folder": module_folder(module),
                "revision": module.version.commit_id,
                "sha256": module.version.weights_sha256,
                "text": module_text(module.version, select),
                "template": module.version.prompt_template or None,
                "licence": module.version.module.licence,
            }
            for module in modules
        ],
    }


def write_record(composition: Composition, folder: Path) -> None:
    """What is known already: how far an earlier attempt came, losses that need no scoring, what fits."""
    write_lines(folder / "steps.jsonl", search_record(composition))
    write_lines(folder / "screened.jsonl", screened_before(composition))
    if composition.budget_fitted and composition.training_fitted:
        FittedWork(composition.budget_fitted, composition.training_fitted).write(folder)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def module_folder(module: CompositionModule) -> str:
    return f"modules/{module.position}"


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def fetch_files(folder: Path, files: Mapping[str, str], on_piece: Callable[[], None]) -> None:
    """Put stored files into a folder; each is held against its sha256 before."""
    folder.mkdir(parents=True)
    for path, sha256 in files.items():
        store().fetch(sha256, folder / path, check=True, on_piece=on_piece)


def remove_orphaned_folders() -> None:
    """Job folders whose job no longer runs in that generation, once their worker had time to clear up."""
    folders = [path for path in jobs_folder().glob("*-*") if is_old(path)]
    running = {
        f"{pk}-{generation}"
        for model in (Composition, ExampleSearch)
        for pk, generation in model.objects.filter(status=Status.RUNNING).values_list("pk", "generation")
    }
    for folder in folders:
        if folder.name not in running:
            remove_folder(folder)


def is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEASE.total_seconds()
    except FileNotFoundError:
        return False
