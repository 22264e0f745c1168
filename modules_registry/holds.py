"""What staff do to a module: put it in quarantine, release it, take it down. Its bytes are nobody's then.

`ModuleQuerySet.visible_to` leaves out what is held, so that every page, the API, the Hub protocol, composing
and try-outs do; `lock_head` lets nothing of it be changed, and its weights come in under no other name.
"""

from functools import partial

from django.db import transaction

from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.blobs import delete_unnamed_blobs
from modules_registry.models import Hold, Module, VersionFile
from modules_registry.services import repository_request


@transaction.atomic
def module_quarantine(*, staff: User, module: Module, reason: str) -> None:
    """Take a module from everybody, its owner too, until staff decide."""
    lock_for_hold(module)
    if module.hold:
        raise Refusal("held_already", module.hold_text, status=409)
    hold(staff, module, Hold.QUARANTINE, "module.quarantine", reason)


@transaction.atomic
def module_release(*, staff: User, module: Module, reason: str = "") -> None:
    """End a quarantine: the module is as it was."""
    lock_for_hold(module)
    if module.hold != Hold.QUARANTINE:
        raise Refusal("not_in_quarantine", f"{module.full_name} is not in quarantine.", status=409)
    hold(staff, module, "", "module.release", reason)


@transaction.atomic
def module_takedown(*, staff: User, module: Module, reason: str) -> None:
    """Delete a module's files for good. Its name stays taken, and its weights are known again."""
    lock_for_hold(module)
    if module.hold == Hold.TAKEDOWN:
        raise Refusal("held_already", module.hold_text, status=409)
    files = VersionFile.objects.filter(version__module=module)
    hashes = {*files.values_list("sha256", flat=True), *module.incoming.values_list("sha256", flat=True)}
    files.delete()
    module.incoming.all().delete()
    module.versions.update(hub_commit_id="")
    hold(staff, module, Hold.TAKEDOWN, "module.takedown", reason)
    transaction.on_commit(partial(delete_unnamed_blobs, hashes))


def lock_for_hold(module: Module) -> None:
    """Read the row anew, once nobody else is changing it.

    Its versions are held too: a composition that begins now waits, then finds that it is held.
    """
    row = Module.objects.select_for_update().get(pk=module.pk)
    if row.deleted_at is not None:
        raise Refusal("module_deleted", f"{module.full_name} was deleted by its owner.", status=409)
    list(module.versions.select_for_update())
    module.refresh_from_db()


def hold(staff: User, module: Module, kind: str, action: str, reason: str) -> None:
    module.hold, module.hold_reason = kind, reason if kind else ""
    module.held_at = database_now() if kind else None
    Module.objects.filter(pk=module.pk).update(  # not its date of change, which lists sort by
        hold=module.hold, hold_reason=module.hold_reason, held_at=module.held_at
    )
    if module.current_id is not None:
        repository_request(module)
    audit_record(actor=staff, action=action, subject=module.full_name, thing=module, reason=reason)
