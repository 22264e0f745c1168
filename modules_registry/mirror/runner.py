"""The worker's side of a module's repository on the Hub: rows, beats, and what went wrong."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import transaction

from hub_site.jobs import leases
from hub_site.jobs.models import Status
from hub_site.jobs.work import HandBack, JobKind, keep_lease, run_job
from modules_registry.blobs import has_remote_store, lock_blobs, remote_store
from modules_registry.mirror import selectors
from modules_registry.mirror.services import repository_queue, restore_local_versions
from modules_registry.models import HubRepository, Module, Version
from modules_registry.storage import (
    DISK_FAULTS,
    MissingBlobError,
    RemoteGoneError,
    RemoteUnavailableError,
    StorageError,
)

if TYPE_CHECKING:
    from modules_registry.storage.remote import RemoteStore

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 15, 3600  # between two tries; each wait is twice the one before
BROKEN_MESSAGE = "Something went wrong on this site. The worker's log has the reason."
REPOSITORIES = JobKind(
    HubRepository, passing=DISK_FAULTS, refusals=(StorageError,), broken_message=BROKEN_MESSAGE
)


def repository_sync(repository_id: UUID) -> None:
    """Bring a repository up to date. Harmless when it is taken, up to date, or not due yet."""
    run_job(REPOSITORIES, repository_id, sync)


def sync(repository: HubRepository) -> None:
    """Bring it up to date, or raise the reason why not."""
    try:
        with keep_lease(repository):
            bring_up_to_date(repository)
    except RemoteUnavailableError as error:
        raise put_off(repository, error) from error
    except StorageError as error:
        logger.error("repository %s: %s", repository, error)
        if isinstance(error, RemoteGoneError):
            fall_back_to_local(repository)
        raise


def bring_up_to_date(repository: HubRepository) -> None:
    store = remote_store()
    if repository.is_there and not repository.module.is_gone:
        sync_visibility(store, repository)  # whatever is to be done: somebody may have taken it away
    while not is_settled(repository):
        repository.module.refresh_from_db()
        if repository.module.is_gone:
            delete_remote_repository(store, repository)
            continue
        version = version_to_publish(store, repository.module)
        if version is not None:
            publish(store, repository, version)
        else:
            sync_visibility(store, repository)


@transaction.atomic
def is_settled(repository: HubRepository) -> bool:
    """Close the job if nothing is left to do. Who adds work locks the row too, so that none is missed."""
    HubRepository.objects.select_for_update().get(pk=repository.pk)
    repository.module.refresh_from_db()
    module = repository.module
    if module.is_gone:
        work_left = repository.is_there
    else:
        is_exposed = repository.is_there and repository.is_private != module.is_hidden
        is_missing = not repository.is_there or selectors.versions_to_publish(module).exists()
        work_left = is_exposed or is_missing
    if not work_left:
        leases.finish(repository, Status.DONE, attempts=0, error_code="", error_message="")
    return not work_left


def version_to_publish(store: "RemoteStore", module: Module) -> Version | None:
    """The next one. One whose files are lost keeps no later one waiting, and is told at the end."""
    lost = ""
    for version in selectors.versions_to_publish(module).prefetch_related("files"):
        missing = [file.sha256 for file in version.files.all() if not can_be_had(store, file.sha256)]
        if not missing:
            return version
        lost = missing[0]
    if lost:
        raise MissingBlobError(lost)
    return None


def can_be_had(store: "RemoteStore", sha256: str) -> bool:
    return store.exists(sha256) or store.locate(sha256) is not None


def publish(store: "RemoteStore", repository: HubRepository, version: Version) -> None:
    """Store one version on the Hub and record where. Repeating it after a crash sends nothing twice."""
    is_private, was_there = repository.module.is_hidden, repository.is_there
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder:
        files = {}
        for path, sha256 in version.files.values_list("path", "sha256"):
            files[path] = Path(folder, sha256)
            store.fetch(sha256, files[path], check=True)
        commit = store.remote.publish(
            repository.repo_id,
            files,
            message=version.message,
            is_private=is_private,
            is_known=repository.is_there,
        )
    with transaction.atomic():
        write(repository, repo_id=commit.repo_id, is_there=True, is_private=is_private, **leases.PROGRESS)
        Version.objects.filter(pk=version.pk).update(hub_commit_id=commit.commit_id)
    if not was_there:
        forget_lost_commits(store, repository)


def sync_visibility(store: "RemoteStore", repository: HubRepository) -> None:
    """Follow it where it was renamed, and put its visibility right. Raises RemoteGoneError."""
    is_private, was_there = repository.module.is_hidden, repository.is_there
    repo_id = store.remote.set_visibility(repository.repo_id, is_private=is_private)
    write(repository, repo_id=repo_id, is_there=True, is_private=is_private)
    if not was_there:
        forget_lost_commits(store, repository)


def forget_lost_commits(store: "RemoteStore", repository: HubRepository) -> None:
    """A repository is there again: what it held before is there only if it was not made anew."""
    for version in repository.module.versions.exclude(hub_commit_id=""):
        try:
            store.remote.altered_files(repository.repo_id, version.hub_commit_id, {})
        except RemoteGoneError:
            Version.objects.filter(pk=version.pk).update(hub_commit_id="")


def delete_remote_repository(store: "RemoteStore", repository: HubRepository) -> None:
    """The module was deleted here. Versions that compositions use are copied back to the local disk first."""
    with transaction.atomic():
        lock_blobs(shared=True)
        kept = repository.module.versions.exclude(hub_commit_id="")
        for sha256 in set(kept.values_list("files__sha256", flat=True)):
            store.open(sha256).close()
        kept.update(hub_commit_id="")
    store.remote.delete(repository.repo_id)
    write(repository, is_there=False)


@transaction.atomic
def fall_back_to_local(repository: HubRepository) -> None:
    """The repository is gone from the Hub. Nothing is stored there anew before somebody asks for it."""
    write(repository, is_there=False)
    restore_local_versions(repository.module)


def write(repository: HubRepository, **fields: object) -> None:
    """Change the row, only while it is ours. Raises LeaseLost."""
    for name, value in fields.items():
        setattr(repository, name, value)
    if not HubRepository.objects.held(repository.generation).filter(pk=repository.pk).update(**fields):
        raise leases.LeaseLost


def put_off(repository: HubRepository, error: RemoteUnavailableError) -> HandBack:
    """To the queue again for later: as late as the Hub asks, and later each time."""
    wait_s = max(error.retry_after_s, min(FIRST_WAIT_S * 2**repository.attempts, LONGEST_WAIT_S))
    logger.warning("repository %s: %s Next try in %d s.", repository, error.sentence, wait_s)
    return HandBack(
        delay_s=wait_s,
        attempts=repository.attempts + 1,
        error_code=error.code,
        error_message=error.sentence,  # without advice: it is tried again by itself
    )


def sweep_repositories() -> list[UUID]:
    """Queue what is not on the Hub as it should be; returns the jobs to queue again."""
    if not has_remote_store():
        return []
    queued = [repository_queue(module).pk for module in selectors.modules_to_store()]
    return [*queued, *(pk for pk in leases.sweep(HubRepository) if pk not in queued)]


def look_for_repositories() -> list[UUID]:
    """Queue what the Hub does not list, or not as it should be; returns the jobs to queue."""
    if not has_remote_store():
        return []
    try:
        listed = remote_store().remote.visibilities()
    except StorageError as error:
        logger.warning("the Hub could not be asked what it has: %s", error)
        return []
    return [
        repository_queue(repository.module).pk
        for repository in selectors.repositories_settled()
        if listed.get(repository.repo_id) != repository.is_private
    ]
