"""Deleting an account: what that means is said first, and what others stand on stays."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from allauth.usersessions.models import UserSession
from django.db import transaction
from django.db.models import CASCADE
from django.db.models.fields.reverse_related import ForeignObjectRel

from composer.models import CompositionModule, ResultFile
from hub_site.accounts.models import Membership, User
from hub_site.accounts.organizations import memberships_of
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from modules_registry.blobs import delete_unnamed_blobs
from modules_registry.models import IncomingFile, Lineage, Module
from modules_registry.popularity import likes_delete
from modules_registry.services import module_delete


@dataclass(frozen=True)
class Consequences:
    """What goes and what stays when an account is deleted."""

    modules: int
    compositions: int
    used_by_others: int  # of the modules: compositions or modules of others were made from them
    held: tuple[str, ...]  # modules that staff hold: they stay with staff
    only_owner_of: tuple[str, ...]  # organizations that would have no owner: these come first

    @property
    def is_possible(self) -> bool:
        return not self.only_owner_of


def consequences(user: User) -> Consequences:
    own = Module.objects.existing().filter(namespace=user.namespace)
    in_compositions = CompositionModule.objects.filter(version__module__in=own).exclude(
        composition__owner=user
    )
    in_modules = Lineage.objects.filter(made_from__module__in=own).exclude(
        child__module__namespace=user.namespace
    )
    used = set(in_compositions.values_list("version__module", flat=True))
    used |= set(in_modules.values_list("made_from__module", flat=True))
    return Consequences(
        modules=own.filter(hold="").count(),
        compositions=user.compositions.count(),
        used_by_others=len(used),
        held=tuple(own.exclude(hold="").values_list("name", flat=True)),
        only_owner_of=tuple(only_owner_of(user)),
    )


def only_owner_of(user: User) -> list[str]:
    """The organizations that others belong to, or that have modules, and that have no other owner."""
    names = []
    for membership in memberships_of(user).filter(role=Membership.Role.ADMIN):
        namespace = membership.namespace
        others = namespace.memberships.exclude(pk=membership.pk)
        is_needed = others.exists() or Module.objects.existing().filter(namespace=namespace).exists()
        if is_needed and not others.filter(role=Membership.Role.ADMIN).exists():
            names.append(namespace.name)
    return names


@transaction.atomic
def account_delete(*, user: User) -> None:
    """Delete what is the account's alone. Its row stays without a name, for what others stand on.

    Whatever hangs on an account by a key that cascades goes; versions in organizations, and the audit,
    keep the nameless row. Its name is never given to anybody else.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    if user.is_staff:
        message = "A staff account is not deleted. Let another member of staff take your rights away first."
        raise Refusal("is_staff", message, status=409)
    if names := only_owner_of(user):
        message = f"You alone own {', '.join(names)}. Make somebody else an owner, or delete its modules."
        raise Refusal("last_owner", message, status=409)
    audit_record(actor=user, action="account.delete", subject=user.username, thing=user)
    for module in Module.objects.existing().filter(namespace=user.namespace, hold=""):
        module_delete(editor=user, module=module)
    hashes = set(ResultFile.objects.filter(composition__owner=user).values_list("sha256", flat=True))
    hashes |= set(IncomingFile.objects.filter(user=user).values_list("sha256", flat=True))
    likes_delete(user=user)
    delete_rows_of(user)
    user.username, user.email, user.first_name, user.last_name = f"~{user.pk}", "", "", ""
    user.is_active, user.deleted_at = False, database_now()
    user.set_unusable_password()
    user.save()
    transaction.on_commit(partial(delete_unnamed_blobs, hashes))


def delete_rows_of(user: User) -> None:
    """Delete every row that would go with the account's own: of any app, whatever hangs on it."""
    for relation in User._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and getattr(relation, "on_delete", None) is CASCADE:
            model: Any = relation.related_model
            model._base_manager.filter(**{relation.field.name: user}).delete()


@transaction.atomic
def session_end(*, user: User, number: int) -> None:
    """Sign one browser of an account out.

    Raises:
        Refusal: the account has no such session; 404.
    """
    session = UserSession.objects.filter(user=user, pk=number).first()
    if session is None:
        raise Refusal("no_such_session", "This session does not exist or has ended.", status=404)
    session.end()
    audit_record(actor=user, action="account.sign_out", subject=user.username, thing=user)
