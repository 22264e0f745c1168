"""The worker's side of a module's repository on the Hub: rows, beats, and what went wrong."""

import logging
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from hub_site.jobs import leases
from hub_site.jobs.models import LEASE, Status
from modules_registry import hub_copies
from modules_registry.hub_repositories import repository_queue
from modules_registry.intake import lock_blobs
from modules_registry.models import HubRepository, Version
from modules_registry.storage import HubGoneError, HubUnavailableError, StorageError

if TYPE_CHECKING:
    from modules_registry.storage.hub import HubStore

logger = logging.getLogger(__name__)

BEAT_S = LEASE.total_seconds() / 5
FIRST_WAIT_S, LONGEST_WAIT_S = 15, 3600  # between two tries; each wait is twice the one before
BROKEN_MESSAGE = "Something broke on our side. The site's operator finds the reason in the worker's log."
WORKER = f"{socket.gethostname()}:{os.getpid()}"

stopping = threading.Event()  # set when the worker is asked to end


def repository_sync(repository_id: UUID) -> None:
    """Bring a repository up to date. Harmless when it is taken, up to date, or not due yet."""
    if HubRepository.objects.filter(pk=repository_id, due_at__gt=timezone.now()).exists():
        return
    repository = leases.claim(HubRepository, repository_id, worker=WORKER)
    if repository is None:
        return
    try:
        with beating(repository):
            attempt(repository)
    except leases.LeaseLost:
        logger.warning("repository %s went to another worker; nothing more is written", repository)


@contextmanager
def beating(repository: HubRepository) -> Iterator[None]:
    """Keep the lease while a transfer waits for the network; give it up when the worker is to end."""
    done = threading.Event()

    def beat() -> None:
        try:
            while not done.wait(BEAT_S):
                if stopping.is_set():
                    leases.let_go(repository)
                    return
                leases.beat(repository)
        except leases.LeaseLost:
            return  # what the worker writes from now on changes no row
        finally:
            connection.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def attempt(repository: HubRepository) -> None:
    """Bring it up to date, or keep the reason why not on the row."""
    try:
        bring_up_to_date(repository)
    except HubUnavailableError as error:
        put_off(repository, error)
    except HubGoneError as error:
        come_back_to_this_disk(repository)
        fail(repository, error.code, str(error))
    except StorageError as error:
        fail(repository, error.code, str(error))
    except leases.LeaseLost:
        raise
    except Exception:
        fail(repository, "broken", BROKEN_MESSAGE)
        raise  # Celery logs it with the traceback


def bring_up_to_date(repository: HubRepository) -> None:
    store = hub_copies.hub_store()
    while not is_settled(repository):
        repository.module.refresh_from_db()
        if repository.module.deleted_at is not None:
            take_away(store, repository)
            continue
        version = hub_copies.versions_to_publish(repository.module).first()
        if version is not None:
            publish(store, repository, version)
        else:
            adjust_visibility(store, repository)


@transaction.atomic
def is_settled(repository: HubRepository) -> bool:
    """Close the job if nothing is left to do. Who adds work locks the row too, so that none is missed."""
    HubRepository.objects.select_for_update().get(pk=repository.pk)
    repository.module.refresh_from_db()
    module = repository.module
    if module.deleted_at is not None:
        work_left = repository.is_there
    else:
        is_exposed = repository.is_there and repository.is_private != module.private
        work_left = is_exposed or hub_copies.versions_to_publish(module).exists()
    if not work_left:
        leases.finish(repository, Status.DONE, attempts=0, error_code="", error_message="")
    return not work_left


def publish(store: "HubStore", repository: HubRepository, version: Version) -> None:
    """Store one version on the Hub and record where. Repeating it after a crash sends nothing twice."""
    is_private = repository.module.private
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder:
        files = {}
        for path, sha256 in version.files.values_list("path", "sha256"):
            files[path] = Path(folder, sha256)
            store.fetch(sha256, files[path], check=True)
        commit = store.hub.publish(
            repository.repo_id,
            files,
            message=version.message,
            is_private=is_private,
            is_known=repository.is_there,
        )
    with transaction.atomic():
        write(repository, repo_id=commit.repo_id, is_there=True, is_private=is_private)
        Version.objects.filter(pk=version.pk).update(hub_commit_id=commit.commit_id)


def adjust_visibility(store: "HubStore", repository: HubRepository) -> None:
    is_private = repository.module.private
    repo_id = store.hub.set_visibility(repository.repo_id, is_private=is_private)
    write(repository, repo_id=repo_id, is_private=is_private)


def take_away(store: "HubStore", repository: HubRepository) -> None:
    """The module was deleted here. Versions that compositions stand on come home first."""
    with transaction.atomic():
        lock_blobs(shared=True)
        kept = repository.module.versions.exclude(hub_commit_id="")
        for sha256 in set(kept.values_list("files__sha256", flat=True)):
            store.open(sha256).close()
        kept.update(hub_commit_id="")
    store.hub.delete(repository.repo_id)
    write(repository, is_there=False)


def come_back_to_this_disk(repository: HubRepository) -> None:
    """The repository is gone: serve from here again whatever is still here, and store it again when asked."""
    store = hub_copies.hub_store()
    published = repository.module.versions.exclude(hub_commit_id="").prefetch_related("files")
    here = [
        version.pk for version in published if all(store.exists(file.sha256) for file in version.files.all())
    ]
    with transaction.atomic():
        write(repository, is_there=False)
        Version.objects.filter(pk__in=here).update(hub_commit_id="")


def write(repository: HubRepository, **fields: object) -> None:
    """Change the row, only while it is ours. Raises LeaseLost."""
    for name, value in fields.items():
        setattr(repository, name, value)
    if not HubRepository.objects.held(repository.generation).filter(pk=repository.pk).update(**fields):
        raise leases.LeaseLost


def put_off(repository: HubRepository, error: HubUnavailableError) -> None:
    """Queue it again for later: as late as the Hub asks, and later each time."""
    wait_s = max(error.retry_after_s, min(FIRST_WAIT_S * 2**repository.attempts, LONGEST_WAIT_S))
    due_at = timezone.now() + timedelta(seconds=wait_s)
    logger.warning("repository %s: %s Next try in %d s.", repository, error.sentence, wait_s)
    write(
        repository,
        status=Status.QUEUED,
        worker="",
        lease_until=None,
        attempts=repository.attempts + 1,
        due_at=due_at,
        error_code=error.code,
        error_message=error.sentence,  # without advice: it is tried again by itself
        updated_at=due_at - leases.RING_AGAIN,  # so that the sweeper rings for it then
    )


def fail(repository: HubRepository, code: str, message: str) -> None:
    logger.error("repository %s: %s", repository, message)
    leases.finish(repository, Status.FAILED, error_code=code, error_message=message)


def sweep_repositories() -> list[UUID]:
    """Queue what is not on the Hub as it should be; returns the jobs whose bell should ring again."""
    if not hub_copies.there_is_a_hub():
        return []
    queued = [repository_queue(module).pk for module in hub_copies.modules_to_store()]
    return [*queued, *(pk for pk in leases.sweep(HubRepository) if pk not in queued)]
