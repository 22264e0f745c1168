"""A module's row for its repository on the Hub: queued when something of the module changed here."""

from django.db import transaction
from django.db.models.functions import Now

from hub_site.jobs.models import FINISHED, Status
from modules_registry import blobs
from modules_registry.models import HubRepository, Module


@transaction.atomic
def repository_queue(module: Module, *, now: bool = False) -> HubRepository:
    """The module's job, queued unless it is already; a worker that is just closing it waits for us.

    Args:
        now: do not wait for the next try either. For staff, who know that what was in the way is gone.
    """
    repository: HubRepository
    repository, _ = HubRepository.objects.select_for_update().get_or_create(
        module=module, defaults={"repo_id": new_repo_id(module), "is_private": module.is_hidden}
    )
    if repository.status in FINISHED:
        repository.status, repository.crashes = Status.QUEUED, 0
        repository.put_off_since, repository.put_off_reason = None, ""
        repository.attempts = 0
        repository.due_at = repository.updated_at = Now()  # type: ignore[assignment]
        repository.started_at = repository.finished_at = None
        repository.error_code = repository.error_message = ""
        repository.save()
    elif now and repository.status == Status.QUEUED:
        repository.due_at = Now()  # type: ignore[assignment]
        repository.save(update_fields=["due_at", "updated_at"])
    return repository


def new_repo_id(module: Module) -> str:
    return blobs.remote_store().remote.repo_id_for(module.namespace.name, module.name)


@transaction.atomic
def repository_renew(repository: HubRepository) -> None:
    """It is gone from the Hub, and staff want it there: let it be made and filled anew."""
    HubRepository.objects.filter(pk=repository.pk).update(is_there=False)
    restore_local_versions(repository.module)
    repository_queue(repository.module, now=True)


def restore_local_versions(module: Module) -> None:
    """Serve from here again what is whole here, and store it again when asked.

    A version that lies on the Hub alone keeps its commit there: the repository may only be out of sight.
    """
    store = blobs.remote_store()
    published = module.versions.exclude(hub_commit_id="").prefetch_related("files")
    here = [
        version.pk for version in published if all(store.exists(file.sha256) for file in version.files.all())
    ]
    module.versions.filter(pk__in=here).update(hub_commit_id="")
