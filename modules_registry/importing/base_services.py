"""Asking for a base model of the Hub: staff only."""

from uuid import UUID

from django.db import transaction

from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from hub_site.common.disk import require_disk_space
from hub_site.common.errors import Refusal, log_refusals
from hub_site.jobs import leases
from hub_site.jobs.models import FINISHED
from modules_registry.core.adapter_config import is_base_name
from modules_registry.importing.models import BaseImport
from modules_registry.importing.services import REVISION
from modules_registry.importing.tasks import run_base_import


@transaction.atomic
def base_import_request(
    *,
    owner: User,
    repo_id: str,
    revision: str = "",
    sentence: str = "",
    licence: str = "",
    enqueue: bool = True,
) -> BaseImport:
    """Store what is asked for, and queue it once it is committed.

    A request for the same model that is not finished yet is the one that is given back.
    """
    require_staff(owner)
    require_model(repo_id, revision)
    User.objects.select_for_update().get(pk=owner.pk)  # one request of a person at a time
    unfinished = BaseImport.objects.exclude(status__in=FINISHED).filter(repo_id=repo_id, revision=revision)
    known: BaseImport | None = unfinished.first()
    if known is not None:
        return known
    with log_refusals(owner.pk):
        require_disk_space()
    job = BaseImport.objects.create(
        owner=owner, repo_id=repo_id, revision=revision, sentence=sentence, licence=licence
    )
    audit_record(actor=owner, action="base_model.request", subject=repo_id, revision=revision)
    if enqueue:
        transaction.on_commit(lambda: run_base_import.delay(str(job.pk)), robust=True)
    return job


def base_import_again(*, owner: User, job: BaseImport) -> BaseImport:
    """Ask once more for what failed or was cancelled; what has come already is not fetched again."""
    return base_import_request(
        owner=owner, repo_id=job.repo_id, revision=job.revision, sentence=job.sentence, licence=job.licence
    )


def base_import_cancel(*, owner: User, import_id: UUID) -> None:
    require_staff(owner)
    leases.cancel(BaseImport, import_id)


def require_staff(user: User) -> None:
    if not user.is_staff:
        raise Refusal("staff_only", "Only staff add base models. Ask the site's operator.", status=403)


def require_model(repo_id: str, revision: str) -> None:
    if not is_base_name(repo_id):
        message = f"“{repo_id[:80]}” is no model on the Hub. Write owner/name, like google/flan-t5-large."
        raise Refusal("bad_name", message, fields={"repo_id": [message]})
    if revision and (".." in revision or not REVISION.fullmatch(revision)):
        message = "This is no revision. Write a commit, a branch or a tag; nothing stands for main."
        raise Refusal("bad_revision", message, fields={"revision": [message]})
