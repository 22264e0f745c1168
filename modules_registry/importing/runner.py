"""The worker's side of an import: one repository after the other, each whole or not at all.

A pickled checkpoint is converted in a limited child; what comes of it goes through the gate like any upload.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from hub_site.accounts.names import name_key
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.child_folder import new_folder, remove_folder
from hub_site.jobs.children import ChildDied, ChildRefused
from hub_site.jobs.models import Status
from hub_site.jobs.work import HandBack, HeldJob, JobKind, run_job
from modules_registry.card_facts import card_facts
from modules_registry.core.accepted_paths import MODULE_FILES, plan_upload
from modules_registry.core.adapter_config import BASE_KEY, CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX
from modules_registry.core.adapter_file import open_weights, read_header
from modules_registry.core.advice import WayIn
from modules_registry.core.base_names import choose_base
from modules_registry.core.cards import (
    CARD_BYTES_MAX,
    TOO_LARGE,
    Card,
    ReadCard,
    base_models_of,
    read_any_card,
)
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.core.repair import Repaired, repair_adapter
from modules_registry.core.strict_json import JsonRefusal, parse_object
from modules_registry.files.conversion import convert_checkpoint, death_refusal
from modules_registry.importing.folders import imports_folder
from modules_registry.importing.lorahub import card_from_name
from modules_registry.importing.models import ImportItem, ModuleImport
from modules_registry.importing.refusal_text import import_refusal_text
from modules_registry.importing.source import ImportSource, ImportSourceUnavailable, RemoteRepository
from modules_registry.models import BaseModel, Module, Origin, Version
from modules_registry.repositories import note_left_out
from modules_registry.selectors import base_called
from modules_registry.services import module_publish, require_name_free, version_add
from modules_registry.storage import LOCAL_FAULTS, StorageError
from modules_registry.trained_templates import BY_PRODUCT_BYTES_MAX, BY_PRODUCTS

SLICE_S = 60  # an import gives its place away after it, while other people's imports wait
AWAY_MAX = 3  # repositories in a row that the Hub did not answer for: then it is away for the rest too
FOLDER = re.compile(r"modules-(?P<job>[0-9a-f-]{36})-(?P<generation>\d+)-.+")
IMPORTS = JobKind(ModuleImport, passing=LOCAL_FAULTS, refusals=(StorageError,))


def sweep() -> list[UUID]:
    return leases.sweep(ModuleImport)


def remove_left_folders() -> None:
    """Remove what workers left that were killed: folders of a claim that no longer holds its job."""
    found = list(imports_folder().iterdir())  # before the rows: a folder is made after its claim
    held = ModuleImport.objects.filter(status=Status.RUNNING).values_list("pk", "generation")
    held_names = {(str(job), str(generation)) for job, generation in held}
    for folder in found:
        name = FOLDER.fullmatch(folder.name)
        if name and (name["job"], name["generation"]) not in held_names:
            remove_folder(folder)


def import_run(import_id: UUID, on_item: Callable[[ImportItem], None] = lambda item: None) -> None:
    """Carry an import to its end, or go on where another worker left it.

    Args:
        on_item: called with each repository once it is clear what became of it.
    """
    run_job(IMPORTS, import_id, lambda job: ModuleImportRun(job, on_item).run())


class ModuleImportRun:
    """One claimed import."""

    def __init__(self, job: ModuleImport, on_item: Callable[[ImportItem], None]) -> None:
        self.job, self.on_item, self.away = job, on_item, 0
        self.slice_ends = time.monotonic() + SLICE_S
        self.held = HeldJob(job)
        self.wait = self.held.wait
        # What the operator's token may see there is not everyone's to bring in.
        token = settings.HUB_IMPORT_TOKEN if job.owner.is_staff and not job.endpoint else ""
        self.reader = ImportSource(job.endpoint or settings.HUB_IMPORT_ENDPOINT, token, self.wait)

    def run(self) -> None:
        if not self.job.is_listed:
            self.list_sources()
        for item in self.job.items.filter(state=ImportItem.State.WAITING):
            self.held.renew()  # whoever cancels gets nothing more, however fast it goes
            self.held.check()
            with self.temporary_folder() as folder:
                self.import_item(item, folder)
            self.on_item(self.job.items.select_related("version__origin").get(pk=item.pk))
            self.let_others_go_on()

    def let_others_go_on(self) -> None:
        """Go back to the queue after a while, so that a thousand repositories keep nobody waiting."""
        others = ModuleImport.objects.due().exclude(owner=self.job.owner)
        if time.monotonic() > self.slice_ends and others.exists():
            raise HandBack

    def temporary_folder(self) -> AbstractContextManager[Path]:
        """Named after this claim, so that the sweep knows when nobody needs it."""
        prefix = f"modules-{self.job.pk}-{self.job.generation}-"
        return new_folder(imports_folder(), prefix)

    def list_sources(self) -> None:
        """Make each source items: itself, or all repositories of an owner, who stays as asked without any."""
        wanted: dict[str, str] = {}
        for source in self.job.sources:
            name, _, revision = source.partition("@")
            for repo_id in [name] if "/" in name else self.repositories_of(name) or [name]:
                wanted.setdefault(repo_id, revision)
        require_not_too_many(len(wanted))
        with transaction.atomic():
            self.require_held(is_listed=True)
            ImportItem.objects.bulk_create(
                ImportItem(job=self.job, position=position, repo_id=repo_id, revision=revision)
                for position, (repo_id, revision) in enumerate(wanted.items())
            )

    def repositories_of(self, owner: str) -> list[str]:
        return self.reader.repositories_of(owner, most=settings.HUB_IMPORT_REPOSITORIES_MAX + 1)

    def import_item(self, item: ImportItem, folder: Path) -> None:
        """Bring one in, or note why not. Raises ImportSourceUnavailable after some failures in a row."""
        try:
            self.import_repository(item, folder)
            self.away = 0
        except ImportSourceUnavailable as away:
            self.refuse(item, away.code, away.message)
            self.away += 1
            if self.away == AWAY_MAX:
                raise
        except ChildDied as died:
            told = death_refusal(died)
            self.refuse(item, told.code, told.message)
        except (Refusal, StorageError, GateRefusal, ChildRefused) as refusal:
            if IMPORTS.site_fault(refusal):  # not the repository's
                raise
            self.away = 0
            self.refuse(item, refusal.code, import_refusal_text(refusal))

    def import_repository(self, item: ImportItem, folder: Path) -> None:
        if "/" not in item.repo_id:  # an owner, for whom the Hub listed nothing
            message = f"{item.repo_id} has no public repository on the Hub. Check the name."
            raise Refusal("nothing_there", message)
        repository = self.reader.read_repository(item.repo_id, item.revision)
        name = item.repo_id.partition("/")[2]
        module = Module.objects.filter(namespace=self.job.namespace, key=name_key(name)).first()
        if module is not None:
            origins = Origin.objects.filter(
                endpoint=self.reader.endpoint, repo_id=item.repo_id, version__module=module
            )
            if module.deleted_at is not None or not origins.exists():
                require_name_free(self.job.namespace, name)
            if known := origins.filter(commit_id=repository.commit_id).first():
                self.close_item(item, ImportItem.State.UNCHANGED, version=known.version)
                return
        weights, sha256 = self.fetch_weights(repository, folder)
        read = self.fetch_card(repository, folder)
        card = card_from_name(item.repo_id, read.card, base=self.job.base_name)
        repaired = self.repair(folder, card)
        repaired.repairs += read.repairs
        beside = self.fetch_by_products(repository, folder)
        self.publish(item, repository, module, folder, card, repaired, (weights, sha256), beside)

    def fetch_weights(self, repository: RemoteRepository, folder: Path) -> tuple[str, str]:
        """The config and the weights as safetensors; returns the weights' file there and its sha256."""
        taken = plan_upload(
            repository.files,
            way_in=WayIn.IMPORT,
            beginning_of=lambda path: self.reader.fetch_beginning(repository, path),
        ).taken
        weights = next((path for path in (WEIGHTS_FILE, LEGACY_FILE) if path in taken), None)
        if weights is None or CONFIG_FILE not in repository.files:
            message = f"{repository.repo_id} holds no adapter: it needs {CONFIG_FILE} and {WEIGHTS_FILE}."
            raise Refusal("not_an_adapter", message)
        self.reader.fetch(repository, CONFIG_FILE, folder / CONFIG_FILE, max_bytes=CONFIG_BYTES_MAX)
        max_bytes = settings.HUB_UPLOAD_MAX_MB * 1_000_000
        sha256 = self.reader.fetch(repository, weights, folder / weights, max_bytes=max_bytes)
        if weights == LEGACY_FILE:
            convert_checkpoint(folder, self.held.check)
        return weights, sha256

    def fetch_card(self, repository: RemoteRepository, folder: Path) -> ReadCard:
        """The repository's card, and what was wrong with it; an empty one if it has none."""
        if CARD_FILE not in repository.files:
            return read_any_card(b"")
        if repository.files[CARD_FILE].size_bytes > CARD_BYTES_MAX:
            return TOO_LARGE
        self.reader.fetch(repository, CARD_FILE, folder / CARD_FILE, max_bytes=CARD_BYTES_MAX)
        return read_any_card((folder / CARD_FILE).read_bytes())

    def fetch_by_products(self, repository: RemoteRepository, folder: Path) -> dict[str, str]:
        """The files that tell of a prompt template; those that are too large are left."""
        beside = {}
        for name in BY_PRODUCTS:
            file = repository.files.get(name)
            if file is not None and file.size_bytes <= BY_PRODUCT_BYTES_MAX:
                self.reader.fetch(repository, name, folder / name, max_bytes=BY_PRODUCT_BYTES_MAX)
                beside[name] = (folder / name).read_text(encoding="utf-8", errors="replace")
        return beside

    def repair(self, folder: Path, card: Card) -> Repaired:
        try:
            config = parse_object((folder / CONFIG_FILE).read_bytes(), depth_max=CONFIG_DEPTH_MAX)
        except JsonRefusal as refusal:
            raise Refusal(f"config_{refusal.problem}", f"{CONFIG_FILE}: {refusal.message}") from refusal
        with open_weights(folder / WEIGHTS_FILE) as file:
            header = read_header(file)
        base = base_called(self.base_of(config, card))
        kinds = {BaseModel.Kind.SEQ2SEQ: "SEQ_2_SEQ_LM", BaseModel.Kind.CAUSAL: "CAUSAL_LM"}
        task_type = kinds[BaseModel.Kind(base.kind)] if base else ""
        return repair_adapter(config, header.tensors, task_type=task_type)

    def base_of(self, config: Mapping[str, Any], card: Card) -> str:
        """The base's name as it was sent; empty if nothing names one."""
        asked, card_bases = self.job.base_name, base_models_of(card)
        chosen = choose_base(config.get(BASE_KEY), asked=asked, card_bases=card_bases)
        return chosen if isinstance(chosen, str) else ""

    @transaction.atomic
    def publish(
        self,
        item: ImportItem,
        repository: RemoteRepository,
        module: Module | None,
        folder: Path,
        card: Card,
        repaired: Repaired,
        weights: tuple[str, str],
        beside: Mapping[str, str],
    ) -> None:
        """The version, where it came from and the item, in one transaction and only while the job is ours."""
        self.require_held()
        with (folder / WEIGHTS_FILE).open("rb") as weights_file:
            files: dict[str, Any] = {
                "base": self.job.base_name,
                "beside": beside,
                "config_file": BytesIO(json.dumps(repaired.config).encode()),
                "weights_file": weights_file,
                "card_file": BytesIO(card.text.encode()) if card.text else None,
                "is_converted": weights[0] == LEGACY_FILE,
                "way_in": WayIn.IMPORT,
                "message": f"Import {repository.repo_id}@{repository.commit_id[:12]}",
            }
            base = self.base_of(repaired.config, card)
            version = self.version_of(module, repository.repo_id, card, base, files)
            made = [asdict(repair) for repair in repaired.repairs]
            version.repairs = made + [repair for repair in version.repairs if repair not in made]
            version.save(update_fields=["repairs"])
        note_left_out(
            version.module, [path for path in repository.files if path not in (*MODULE_FILES, weights[0])]
        )
        Origin.objects.get_or_create(
            version=version,
            defaults={
                "endpoint": self.reader.endpoint,
                "repo_id": repository.repo_id,
                "commit_id": repository.commit_id,
                "weights_file": weights[0],
                "weights_sha256": weights[1],
                "repairs": version.repairs,
            },
        )
        self.close_item(item, ImportItem.State.IMPORTED, version=version)

    def version_of(
        self, module: Module | None, repo_id: str, card: Card, base: str, files: dict[str, Any]
    ) -> Version:
        if module is not None:
            return version_add(author=self.job.owner, module=module, is_import=True, **files)[0]
        said = card_facts(card, repo_id=repo_id, base=base)
        published = module_publish(
            author=self.job.owner,
            namespace=self.job.namespace,
            name=repo_id.partition("/")[2],
            sentence=said.sentence,
            licence=said.licence,
            tags=said.tags,
            is_import=True,
            **files,
        )
        assert published.current is not None
        return published.current

    def refuse(self, item: ImportItem, code: str, message: str) -> None:
        self.close_item(item, ImportItem.State.REFUSED, code=code, message=message)

    @transaction.atomic
    def close_item(self, item: ImportItem, state: str, **fields: object) -> None:
        self.require_held(**leases.PROGRESS)
        ImportItem.objects.filter(pk=item.pk).update(state=state, finished_at=Now(), **fields)

    def require_held(self, **fields: object) -> None:
        held = ModuleImport.objects.held(self.job.generation).filter(pk=self.job.pk)
        if not held.update(updated_at=Now(), **fields):
            raise leases.LeaseLost


def require_not_too_many(count: int) -> None:
    most = settings.HUB_IMPORT_REPOSITORIES_MAX
    if count > most:
        message = f"These are more than {most:,} repositories, the most in one import. Name fewer."
        raise Refusal("too_many_repositories", message)
