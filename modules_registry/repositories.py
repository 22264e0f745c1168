"""Repositories as Hub clients handle them: begun empty, renamed, hidden, branched, tagged."""

from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key, require_name
from hub_site.accounts.organizations import require_owner
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.core.accepted_paths import UploadPlan
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.indexing import describe_for_search
from modules_registry.models import Module, Ref, Version
from modules_registry.notices import tell_of_child
from modules_registry.quotas import require_repository_left, require_storage_left
from modules_registry.selectors import COMMIT_ID, MAIN, NUMBERED, REF_NAME, is_storable, sizes_of
from modules_registry.services import (
    lock_head,
    module_insert,
    name_taken,
    release_name,
    repository_request,
    require_name_free,
    require_writable,
    version_insert,
)

REFS_MAX = 200
LEFT_OUT_MAX, LEFT_OUT_LENGTH_MAX = 2000, 300  # paths, characters of one
ANNOUNCED = timedelta(minutes=30)  # a client asks in batches, and commits them together


@transaction.atomic
def repository_create(
    *, author: User, namespace: Namespace, name: str, private: bool = False, begun_with: str = ""
) -> Module:
    """Begin a module without files: a draft, which commits complete.

    Args:
        begun_with: the client's program, as it names itself.
    """
    require_writable(author, namespace)
    require_name(name, field="name", what="a module")
    require_name_free(namespace, name)
    module = Module(namespace=namespace, name=name, key=name_key(name), private=private)
    module.begun_with = begun_with[:100]
    module_insert(module)
    version_insert(module, author, "Initial commit", {}, {})
    audit_record(actor=author, action="module.create", subject=module.full_name, thing=module)
    return module


@transaction.atomic
def repository_move(*, editor: User, module: Module, namespace: Namespace, name: str) -> Module:
    """Give a module another name or owner. The old name stays taken, and leads to it.

    Out of an organization only an owner of it moves one: who writes there might take it along.
    """
    require_writable(editor, module.namespace)
    require_writable(editor, namespace)
    if namespace != module.namespace and module.namespace.user_id != editor.pk:
        require_owner(editor, module.namespace, "moves a module out of it")
    require_name(name, field="name", what="a module")
    lock_head(module)
    module.former_names.filter(namespace=namespace, key=name_key(name)).delete()  # its own again
    release_name(namespace, name, but=module)
    former = Module(namespace=module.namespace, name=module.name, key=module.key, moved_to=module)
    former.deleted_at = database_now()
    same = Module.objects.filter(namespace=namespace, key=name_key(name)).first()
    if same is not None and same.pk != module.pk:
        raise name_taken(same, name)
    if same is None:
        require_name_free(namespace, name)
    if namespace != module.namespace:
        require_repository_left(namespace)
        require_storage_left(namespace, sizes_of(module.namespace).get(module.pk, 0))
    was = module.full_name
    module.namespace, module.name, module.key = namespace, name, name_key(name)
    describe_for_search(module)
    try:
        with transaction.atomic():
            module.save_all_but_counts()
    except IntegrityError:
        require_name_free(namespace, name)  # someone else was faster
        raise
    if same is None:
        former.save()
    audit_record(actor=editor, action="module.move", subject=module.full_name, thing=module, was=was)
    return module


@transaction.atomic
def repository_keep(module: Module) -> None:
    """A client asked again for a repository without files.

    Each upload asks once. Twice without a refused upload between: it was made for its own sake. After a
    refused one nobody knows yet: it stays, unless an upload is refused again.
    """
    empty = Module.objects.filter(pk=module.pk, current=None, draft__parent=None)
    if not empty.filter(refused_at=None).update(is_kept_empty=True):
        empty.update(refused_at=None)


def upload_refused(*, module: Module, program: str) -> None:
    """An upload to a module without any file was refused; one by the program that made it makes it swept."""
    empty = Module.objects.filter(pk=module.pk, current=None, draft__parent=None)
    if empty.exclude(begun_with=program[:100]).update(is_kept_empty=True):
        return
    empty.update(refused_at=Now())


@transaction.atomic
def upload_announced(*, module: Module, plan: UploadPlan) -> None:
    """Note what a client will send, and what of its folder is left out: the module's page lists it."""
    note_left_out(module, plan.left_out)
    if WEIGHTS_FILE in plan.taken:
        Module.objects.filter(pk=module.pk).update(weights_announced_at=Now())


@transaction.atomic
def note_left_out(module: Module, paths: Iterable[str]) -> None:
    """Add to the list of what clients sent and what is not part of the module."""
    row = Module.objects.select_for_update().get(pk=module.pk)
    known = {*row.left_out, *(path[:LEFT_OUT_LENGTH_MAX] for path in paths if is_storable(path))}
    listed = sorted(known)[:LEFT_OUT_MAX]
    if listed != row.left_out:
        Module.objects.filter(pk=module.pk).update(left_out=listed)


def files_there(module: Module, head: Version) -> set[str]:
    """The files that a module has, and its weights if a client announced them a short time ago."""
    there = {file.path for file in head.files.all()}
    announced = module.weights_announced_at
    return there | ({WEIGHTS_FILE} if announced and announced > database_now() - ANNOUNCED else set())


@transaction.atomic
def repository_hide(*, editor: User, module: Module, private: bool) -> None:
    """Make a module private, or show it to all."""
    require_writable(editor, module.namespace)
    lock_head(module)
    module.private = private
    module.indexed_at = None  # its words and values are the library's only while everyone sees it
    module.save(update_fields=["private", "indexed_at"])
    if module.current is not None:
        repository_request(module)
    tell_of_child(module)
    action = "module.hide" if private else "module.show"
    audit_record(actor=editor, action=action, subject=module.full_name, thing=module)


@transaction.atomic
def ref_create(
    *, editor: User, module: Module, kind: Ref.Kind, name: str, version: Version, message: str = ""
) -> Ref:
    """Add a branch or a tag."""
    require_writable(editor, module.namespace)
    lock_head(module)
    require_ref_name(name, kind)
    if (there := module.refs.filter(name=name).first()) is not None:
        raise ref_taken(name, is_same=there.kind == kind)
    if module.refs.count() >= REFS_MAX:
        raise Refusal("too_many_refs", f"{REFS_MAX} branches and tags are the most. Delete one first.")
    ref = Ref.objects.create(module=module, kind=kind, name=name, version=version, message=message[:200])
    audit_record(actor=editor, action=f"module.{kind}", subject=module.full_name, thing=module, name=name)
    return ref


def require_ref_name(name: str, kind: Ref.Kind) -> None:
    if name == MAIN:
        raise ref_taken(name, is_same=kind == Ref.Kind.BRANCH)
    if kind == Ref.Kind.BRANCH and NUMBERED.fullmatch(name):
        message = (
            f"“{name}” is kept for the module's version of that number. Choose another name, like {name}.0."
        )
        raise Refusal("bad_ref_name", message)  # not 409, which clients take for “exists already”
    odd = COMMIT_ID.fullmatch(name) or ".." in name or "//" in name or name.endswith((".lock", "/"))
    if not REF_NAME.fullmatch(name) or odd or name.startswith("refs/"):
        message = (
            f"“{name[:40]}” cannot be the name of a {kind}. Use letters, digits, “.”, “-”, “_” or “/”, at "
            "most 100, beginning and ending with a letter or digit."
        )
        raise Refusal("bad_ref_name", message)


def ref_taken(name: str, *, is_same: bool) -> Refusal:
    """Clients take 409 for “there is such a one already”: true of a branch for a branch, a tag for a tag."""
    message = f"“{name}” exists already. Choose another name, or delete it."
    return Refusal("ref_exists", message, status=409 if is_same else 400)


@transaction.atomic
def ref_delete(*, editor: User, module: Module, kind: Ref.Kind, name: str) -> None:
    require_writable(editor, module.namespace)
    lock_head(module)
    is_there = module.refs.filter(kind=kind, name=name).exists()
    if name == MAIN or (NUMBERED.fullmatch(name) and not is_there):
        raise Refusal("ref_stays", f"“{name}” belongs to the module and stays. Delete the module instead.")
    deleted, _ = module.refs.filter(kind=kind, name=name).delete()
    if not deleted:
        raise Refusal("no_such_ref", f"{module.full_name} has no {kind} “{name[:100]}”.", status=404)
    audit_record(
        actor=editor, action=f"module.{kind}.delete", subject=module.full_name, thing=module, name=name
    )
