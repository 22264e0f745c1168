"""Organizations: founded, joined by invitation, administered by their owners, left."""

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse

from hub_site.accounts.models import Invitation, Membership, Namespace, User
from hub_site.audit.services import audit_record
from hub_site.common.errors import Refusal, field_refusal
from hub_site.notifications.models import Kind, Notice
from hub_site.notifications.services import notify

SALT = "accounts.invitation"
INVITATION_LASTS_S = 14 * 24 * 3600  # the link in the mail
WAITING_MAX = 50  # invitations of one organization


def organization_find(name: str, viewer: User) -> Membership | None:
    """The viewer's membership in the organization of this name; None where they have none."""
    memberships = Membership.objects.filter(user=viewer, namespace__name__iexact=name)
    return memberships.select_related("namespace").first()


def memberships_of(user: User) -> QuerySet[Membership]:
    return Membership.objects.filter(user=user).select_related("namespace").order_by("namespace__name")


def members_of(namespace: Namespace) -> QuerySet[Membership]:
    return namespace.memberships.select_related("user").order_by("user__username")


def invitations_for(user: User) -> QuerySet[Invitation]:
    """Those by name, and those to a mail address of theirs that is confirmed."""
    confirmed = EmailAddress.objects.filter(user=user, verified=True).values("email")
    mine = Invitation.objects.filter(Q(user=user) | Q(email__in=confirmed))
    return mine.select_related("namespace", "invited_by")


@transaction.atomic
def member_invite(*, actor: User, namespace: Namespace, who: str, role: str) -> Invitation:
    """Ask an account, by its name, or whoever reads a mail address, to join."""
    require_owner(actor, namespace)
    require_role(role)
    if namespace.invitations.count() >= WAITING_MAX:
        message = f"{WAITING_MAX} invitations wait already, the most. Withdraw one first."
        raise Refusal("too_many_invitations", message, status=409)
    user, email = person_named(who.strip())
    if user and namespace.memberships.filter(user=user).exists():
        raise Refusal("member_already", f"{user.username} belongs to {namespace.name} already.", status=409)
    try:
        with transaction.atomic():
            invitation = Invitation.objects.create(
                namespace=namespace, user=user, email=email, role=role, invited_by=actor
            )
    except IntegrityError as error:
        raise Refusal("invited_already", f"{who} is invited already.", status=409) from error
    audit_record(
        actor=actor, action="member.invite", subject=namespace.name, thing=namespace,
        who=user.username if user else "by mail", role=role,
    )  # fmt: skip
    if user is not None:
        text = f"{actor.username} invites you to the organization {namespace.name}."
        path = reverse("accounts:organizations")
        notify([Notice(user.pk, Kind.INVITATION, f"invitation:{invitation.pk}", text, path)])
    if address := email or (user.email if user else ""):
        transaction.on_commit(lambda: send_invitation(invitation, address), robust=True)
    return invitation


def person_named(who: str) -> tuple[User | None, str]:
    if "@" in who:
        try:
            validate_email(who)
        except ValidationError as error:
            raise field_refusal("bad_address", "who", "This is not a mail address.") from error
        return None, who
    user = User.objects.filter(username__iexact=who, is_active=True).first() if "\x00" not in who else None
    if user is None:
        raise field_refusal("no_such_account", "who", f"There is no account “{who[:96]}”.")
    return user, ""


def send_invitation(invitation: Invitation, address: str) -> None:
    token = signing.dumps(invitation.pk, salt=SALT)
    path = reverse("accounts:invitation", args=[token])
    context = {"invitation": invitation, "address": f"{settings.PUBLIC_ADDRESS}{path}"}
    body = render_to_string("accounts/invitation_mail.txt", context)
    EmailMessage(subject=f"Join {invitation.namespace.name}", body=body, to=[address]).send()


def invitation_of_mail(token: str) -> Invitation | None:
    """The invitation whose mail has this link; None if it is none, too old, or was withdrawn."""
    try:
        pk = signing.loads(token, salt=SALT, max_age=INVITATION_LASTS_S)
    except signing.BadSignature:
        return None
    return Invitation.objects.select_related("namespace", "invited_by").filter(pk=pk).first()


@transaction.atomic
def invitation_accept(*, user: User, invitation: Invitation) -> Membership:
    """Join. Whoever followed the link of a mail has shown that the address is theirs."""
    if invitation.user is not None and invitation.user != user:
        raise Refusal("not_yours", "This invitation is for another account.", status=403)
    membership, _ = Membership.objects.get_or_create(
        namespace=invitation.namespace, user=user, defaults={"role": invitation.role}
    )
    invitation.delete()
    record_member("member.add", user, membership)
    return membership


def invitation_decline(*, user: User, invitation: Invitation) -> None:
    """Say no; harmless twice."""
    invitations_for(user).filter(pk=invitation.pk).delete()


def invitation_withdraw(*, actor: User, namespace: Namespace, number: int) -> None:
    require_owner(actor, namespace)
    namespace.invitations.filter(pk=number).delete()


@transaction.atomic
def member_change(*, actor: User, namespace: Namespace, member: str, role: str) -> Membership:
    """Give a member another role; one owner must be left."""
    require_owner(actor, namespace)
    require_role(role)
    membership = lock_member(namespace, member)
    if role != Membership.Role.ADMIN:
        require_another_owner(membership)
    membership.role = role
    membership.save(update_fields=["role", "updated_at"])
    record_member("member.change", actor, membership)
    return membership


@transaction.atomic
def member_remove(*, actor: User, namespace: Namespace, member: str) -> None:
    """Leave, or, as an owner, remove somebody; one owner must be left."""
    membership = lock_member(namespace, member)
    if membership.user != actor:
        require_owner(actor, namespace)
    require_another_owner(membership)
    record_member("member.remove", actor, membership)
    membership.delete()


def record_member(action: str, actor: User, membership: Membership) -> None:
    audit_record(
        actor=actor,
        action=action,
        subject=membership.namespace.name,
        thing=membership.namespace,
        who=membership.user.username,
        role=membership.role,
    )


def lock_member(namespace: Namespace, member: str) -> Membership:
    """The membership, once nobody else is changing who belongs to the organization."""
    Namespace.objects.select_for_update().get(pk=namespace.pk)
    membership = members_of(namespace).filter(user__username__iexact=member).first()
    if membership is None:
        raise Refusal("no_such_member", f"{member[:96]} does not belong to {namespace.name}.", status=404)
    return membership


def require_owner(actor: User, namespace: Namespace, what: str = "decides who belongs to it") -> None:
    owners = namespace.memberships.filter(role=Membership.Role.ADMIN)
    if not owners.filter(user=actor).exists():
        message = f"Only an owner of {namespace.name} {what}."
        raise Refusal("owners_only", message, status=403)


def require_another_owner(membership: Membership) -> None:
    others = membership.namespace.memberships.filter(role=Membership.Role.ADMIN).exclude(pk=membership.pk)
    if membership.role == Membership.Role.ADMIN and not others.exists():
        message = f"{membership.user.username} is the only owner. Make somebody else an owner first."
        raise Refusal("last_owner", message, status=409)


def require_role(role: str) -> None:
    if role not in Membership.Role.values:
        raise field_refusal("bad_role", "role", f"“{role[:20]}” is not a role.", Membership.Role.values)
