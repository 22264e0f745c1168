"""The worker's side of bringing a base model in: its files at one commit, then the library's way of adding.

Only safetensors, the config and the tokenizer are fetched: no code, no pickles. What has come stays in the
folder of its commit until the model is in, so that the next attempt goes on from it.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from hub_site.common.errors import Refusal
from hub_site.common.os_faults import DISK_FULL
from hub_site.jobs import leases
from hub_site.jobs.models import LEASE
from hub_site.jobs.work import HeldJob, JobKind, run_job
from modules_registry.base_models import (
    BASE_FILES,
    base_model_add,
    kind_of,
    recheck_modules,
    require_no_alias,
    require_same,
)
from modules_registry.core.base_shapes import BASE_CONFIG, CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX
from modules_registry.core.cards import CARD_BYTES_MAX, license_of, read_any_card
from modules_registry.core.errors import CARD_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.core.strict_json import JsonRefusal, parse_object
from modules_registry.importing.folders import imports_folder
from modules_registry.importing.models import BaseImport
from modules_registry.importing.source import ImportSource, RemoteRepository
from modules_registry.models import BaseModel
from modules_registry.storage import LOCAL_FAULTS, StorageError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SMALL_FILE_BYTES_MAX = 64_000_000  # a tokenizer of 262,144 tokens has about 35 MB
INDEX_BYTES_MAX, INDEX_DEPTH_MAX = 16_000_000, 4
SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.safetensors")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
KEPT_S = 24 * 3600  # files of an attempt that nobody went on with
STORED_BYTES_PER_S = 20_000_000  # hashing and copying on a slow disk; nobody beats meanwhile
CHECKS_S = 120  # to hold modules against the new base
BASE_IMPORTS = JobKind(BaseImport, passing=LOCAL_FAULTS, refusals=(StorageError,))


def sweep() -> list[UUID]:
    return leases.sweep(BaseImport)


def remove_old_folders() -> None:
    for folder in imports_folder().glob("base-*"):
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def base_run(import_id: UUID) -> None:
    """Bring a base model in, or go on where another worker left it."""
    run_job(BASE_IMPORTS, import_id, lambda job: BaseImportRun(job).run())


class BaseImportRun:
    """One claimed request for a base model."""

    def __init__(self, job: BaseImport) -> None:
        self.job = job
        self.folder: Path | None = None
        self.wait = HeldJob(job, self.count).wait
        self.reader = ImportSource(settings.HUB_IMPORT_ENDPOINT, settings.HUB_IMPORT_TOKEN, self.wait)

    def run(self) -> None:
        repository = self.reader.read_repository(self.job.repo_id, self.job.commit_id or self.job.revision)
        self.note(commit_id=repository.commit_id)
        known = BaseModel.objects.filter(name=self.job.repo_id).first()
        if known is not None:
            recheck_modules(require_same(known, repository.commit_id))
            self.note(base=known)
            return
        require_no_alias(self.job.repo_id)
        self.folder = folder_of(repository)
        wanted = self.paths_to_fetch(repository)
        planned = sum(repository.files[path].size_bytes for path in wanted)
        require_disk_space(planned, already=bytes_in(self.folder))
        self.note(bytes_planned=planned)
        require_language_model(self.fetch(repository, BASE_CONFIG, max_bytes=CONFIG_BYTES_MAX))
        for path in wanted:
            self.fetch(repository, path, max_bytes=most_of(path))
        self.add(repository, planned)
        shutil.rmtree(self.folder, ignore_errors=True)

    def paths_to_fetch(self, repository: RemoteRepository) -> list[str]:
        """The paths to fetch, the small ones first."""
        small = [path for path in BASE_FILES if path != INDEX and path in repository.files]
        if BASE_CONFIG not in small:
            raise Refusal("base_incomplete", f"{repository.repo_id} has no {BASE_CONFIG}. Check the name.")
        if WEIGHTS in repository.files:
            return [*small, WEIGHTS]
        if INDEX in repository.files:
            return [*small, INDEX, *self.shards(repository)]
        raise without_safetensors(repository)

    def shards(self, repository: RemoteRepository) -> list[str]:
        """The files that the index names."""
        index = self.fetch(repository, INDEX, max_bytes=INDEX_BYTES_MAX)
        try:
            placed = parse_object(index.read_bytes(), depth_max=INDEX_DEPTH_MAX).get("weight_map")
        except JsonRefusal as refusal:
            raise Refusal(f"index_{refusal.problem}", f"{INDEX}: {refusal.message}") from refusal
        names = set(placed.values()) if isinstance(placed, dict) and is_text(placed.values()) else set()
        missing = sorted(name for name in names if not SHARD.fullmatch(name) or name not in repository.files)
        if missing or not names:
            said = f"{missing[0][:80]}, which is not there" if missing else "no files"
            raise Refusal("base_incomplete", f"{INDEX} of {repository.repo_id} names {said}.")
        return sorted(names)

    def fetch(self, repository: RemoteRepository, path: str, *, max_bytes: int) -> Path:
        """A file of the repository, whole, unless an earlier attempt has fetched it."""
        target = self.target(path)
        if not target.exists():
            part = self.target(f"{path}.part")  # goes on where it was broken off
            self.reader.fetch(repository, path, part, max_bytes=max_bytes)
            part.replace(target)
            self.note(**leases.PROGRESS)
        return target

    def target(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / name

    def add(self, repository: RemoteRepository, planned: int) -> None:
        licence = self.job.licence or self.license_of_card(repository)
        self.wait(0)
        self.note(
            bytes_done=planned,
            lease_until=Now() + LEASE + timedelta(seconds=planned / STORED_BYTES_PER_S + CHECKS_S),
        )
        assert self.folder is not None
        base, _ = base_model_add(
            folder=self.folder,
            name=self.job.repo_id,
            revision=repository.commit_id,
            sentence=self.job.sentence,
            licence=licence,
            added_by=self.job.owner,
        )
        self.note(base=base)

    def license_of_card(self, repository: RemoteRepository) -> str:
        """What the card says, if it can be read."""
        remote = repository.files.get(CARD_FILE)
        if remote is None or remote.size_bytes > CARD_BYTES_MAX:
            return ""
        try:
            card = read_any_card(
                self.fetch(repository, CARD_FILE, max_bytes=CARD_BYTES_MAX).read_bytes()
            ).card
        except GateRefusal:
            return ""
        return license_of(card)

    def count(self) -> None:
        """Store how much has come."""
        if self.folder is not None:
            self.note(bytes_done=bytes_in(self.folder))

    def note(self, **fields: object) -> None:
        """Write to the job's row, only while it is ours."""
        held = BaseImport.objects.held(self.job.generation).filter(pk=self.job.pk)
        if not held.update(updated_at=Now(), **fields):
            raise leases.LeaseLost


def folder_of(repository: RemoteRepository) -> Path:
    """One per commit, whichever request it is fetched for."""
    key = hashlib.sha256(f"{repository.repo_id}@{repository.commit_id}".encode()).hexdigest()[:16]
    folder = imports_folder() / f"base-{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.touch()
    return folder


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def most_of(path: str) -> int:
    """The most bytes taken of a file."""
    return settings.HUB_BASE_MAX_MB * 1_000_000 if path.endswith(".safetensors") else SMALL_FILE_BYTES_MAX


def require_language_model(config: Path) -> None:
    """Refuse what generates no text before its weights come."""
    try:
        said = parse_object(config.read_bytes(), depth_max=CONFIG_DEPTH_MAX)
    except JsonRefusal as refusal:
        raise Refusal(f"config_{refusal.problem}", f"{BASE_CONFIG}: {refusal.message}") from refusal
    architectures = said.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    kind_of(said, str(first))


def require_disk_space(planned: int, *, already: int) -> None:
    """Refuse a base that is too large here; wait while the disk has no space for it."""
    most = settings.HUB_BASE_MAX_MB
    if planned > most * 1_000_000:
        message = (
            f"It has {planned / 1e6:,.0f} MB, and {most:,} MB are the most taken here (HUB_BASE_MAX_MB)."
        )
        raise Refusal("base_too_large", message)
    free = free_bytes()
    if free < 2 * planned - already:  # once as it comes, once in the store
        message = f"It needs {2 * planned / 1e6:,.0f} MB on the disk, and {free / 1e6:,.0f} MB are free."
        raise Refusal(DISK_FULL, message, status=507)


def free_bytes() -> int:
    """Return what is free where the files of a base come."""
    return shutil.disk_usage(imports_folder()).free


def without_safetensors(repository: RemoteRepository) -> Refusal:
    pickled = next((path for path in sorted(repository.files) if path.endswith(PICKLED)), "")
    if pickled:
        message = (
            f"{repository.repo_id} has its weights only as {pickled}, a format that is not read here. "
            f"Take a repository with {WEIGHTS}, or convert it with transformers' save_pretrained."
        )
        return Refusal("base_pickled", message)
    kind = " It is an adapter: import it as a module." if WEIGHTS_FILE in repository.files else ""
    return Refusal("base_incomplete", f"{repository.repo_id} has no {WEIGHTS}.{kind}")


def is_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
