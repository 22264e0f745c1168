"""Who is who: reads only."""

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce, Now

from hub_site.accounts.models import ApiToken, Membership, Namespace, User
from hub_site.accounts.names import name_key
from hub_site.common.errors import Refusal


def namespace_is_taken(name: str) -> bool:
    return Namespace.objects.filter(key=name_key(name)).exists()


def namespace_by_name(name: str) -> Namespace | None:
    """The namespace with this name in any case; look-alikes do not match. A deleted account has none."""
    named = Namespace.objects.filter(key=name_key(name), name__iexact=name)  # the key is what is indexed
    return named.filter(user__deleted_at=None).first()


def namespaces_writable_by(user: User) -> QuerySet[Namespace]:
    """The user's own namespace, and the organizations in which they may write."""
    writes = Membership.Role.WRITE, Membership.Role.ADMIN
    member = Q(memberships__user=user, memberships__role__in=writes)
    return Namespace.objects.filter(Q(user=user) | member).distinct()


def namespaces_readable_by(viewer: object) -> QuerySet[Namespace]:
    """The viewer's own namespace, and every organization they belong to; none for a stranger."""
    if not isinstance(viewer, User):
        return Namespace.objects.none()
    return Namespace.objects.filter(Q(user=viewer) | Q(memberships__user=viewer)).distinct()


def people_of(namespace: Namespace) -> list[User]:
    """Whose it is: the account, or those who administer the organization."""
    if namespace.user is not None:
        return [namespace.user]
    admins = namespace.memberships.filter(role=Membership.Role.ADMIN).select_related("user")
    return [membership.user for membership in admins]


def staff_user(username: str) -> User:
    """The member of staff who was named, or the only one there is."""
    staff = User.objects.filter(is_staff=True, is_active=True)
    found = list(staff.filter(username=username) if username else staff)
    if len(found) != 1:
        raise Refusal(
            "staff_unclear",
            "Say which member of staff does it: --user NAME. “./hub manage createsuperuser” makes one.",
        )
    return found[0]


def tokens_of(user: User) -> QuerySet[ApiToken]:
    """Those that are not revoked, each with `has_expired`."""
    has_expired = Coalesce(Q(expires_at__lte=Now()), Value(False))  # without an expiry it is NULL
    return ApiToken.objects.filter(user=user, revoked_at=None).annotate(has_expired=has_expired)


def token_find(token: str) -> ApiToken | None:
    """The usable token with this text, or None. That of a suspended account is refused with the reason."""
    digest = ApiToken.digest_of(token)
    row = ApiToken.objects.usable().select_related("user").filter(digest=digest).first()
    if row is not None:
        require_not_suspended(row.user)
    return row


def require_not_suspended(user: User) -> None:
    if user.suspended_at is not None:
        raise Refusal("account_suspended", suspension_text(user), status=403)


def suspension_text(user: User) -> str:
    """What the owner of a suspended account is told."""
    return f"This account is suspended. Reason: {user.suspension_reason}"
