"""Making people, their names and their tokens."""

import secrets
import string
import zlib
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from hub_site.accounts.models import ApiToken, Membership, Namespace, User
from hub_site.accounts.names import name_key, require_free_of_reserved, require_name
from hub_site.accounts.selectors import namespace_is_taken, namespaces_readable_by
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal

TOKEN_PREFIX = "lh_"  # lets scanners and people recognize a leaked token
TOKEN_RANDOM_LENGTH = 40  # base62 characters, about 238 bits
ORGANIZATIONS_MAX = 20  # of one account, as an owner: each has quotas of its own
BASE62 = string.digits + string.ascii_letters


def username_check(username: str) -> str:
    """Refuse a name that is malformed, kept for the site, taken, or too like a taken one."""
    require_name(username, field="username", what="an account")
    require_free_of_reserved(username, field="username")
    if namespace_is_taken(username):
        raise name_taken(username)
    return username


def name_taken(username: str) -> Refusal:
    message = f"“{username}” is taken, or too similar to a name that is. Choose another one."
    return Refusal("name_taken", message, status=409, fields={"username": [message]})


def namespace_claim(*, user: User) -> Namespace:
    """Give a new user the namespace of the same name."""
    namespace = Namespace.for_user(user)
    try:
        with transaction.atomic():
            namespace.save()
    except IntegrityError as error:
        raise name_taken(user.username) from error
    audit_record(actor=user, action="account.create", subject=user.username, thing=user)
    return namespace


@transaction.atomic
def organization_create(*, founder: User, name: str) -> Namespace:
    """Make a namespace of several people, of whom the founder is the first."""
    founded = Membership.objects.filter(user=founder, role=Membership.Role.ADMIN).count()
    if founded >= ORGANIZATIONS_MAX and not founder.is_staff:
        message = f"You own {founded} organizations, the most for one account."
        raise Refusal("too_many_organizations", message, status=403)
    require_name(name, field="namespace", what="an organization")
    require_free_of_reserved(name, field="namespace")
    if namespace_is_taken(name):
        raise name_taken(name)
    namespace = Namespace.objects.create(name=name, key=name_key(name), kind=Namespace.Kind.ORGANISATION)
    Membership.objects.create(namespace=namespace, user=founder, role=Membership.Role.ADMIN)
    audit_record(actor=founder, action="organization.create", subject=name, thing=namespace)
    return namespace


@transaction.atomic
def user_create(*, username: str, email: str = "", password: str | None = None, staff: bool = False) -> User:
    """Create a user with a namespace of the same name; without a password, one cannot sign in with one."""
    username_check(username)
    user = User(username=username, email=email, is_staff=staff, is_superuser=staff)
    if password is not None:
        require_good_password(password, user)
    user.set_password(password)
    user.save()
    namespace_claim(user=user)
    return user


def require_good_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Refusal(
            "weak_password", " ".join(error.messages), fields={"password": error.messages}
        ) from error


@transaction.atomic
def token_create(
    *, user: User, label: str, scope: str, days: int | None = None, limited_to: str = ""
) -> tuple[ApiToken, str]:
    """Make a bearer token. The second value is the token itself: it is not kept and never shown again.

    Args:
        limited_to: “owner” or “owner/name”: for everything else it counts as no token. Empty: for all.
    """
    if scope not in ApiToken.Scope.values:
        raise Refusal("bad_scope", f"A token's scope is “read” or “write”, not “{scope[:20]}”.")
    if days is not None and not 1 <= days <= 3650:
        raise Refusal("bad_expiry", "A token can last from 1 to 3650 days.", fields={"days": ["1 to 3650."]})
    require_own_limit(user, limited_to)
    token = new_token()
    expires_at = database_now() + timedelta(days=days) if days else None
    row = ApiToken(
        user=user,
        label=label[:60] or "unnamed",
        scope=scope,
        limited_to=limited_to,
        digest=ApiToken.digest_of(token),
        hint=token[:8],
        expires_at=expires_at,
    )
    row.save()
    audit_record(
        actor=user, action="token.create", subject=str(row), thing=user, scope=scope, limited_to=limited_to
    )
    return row, token


def require_own_limit(user: User, limited_to: str) -> None:
    owner, slash, name = limited_to.partition("/")
    if slash:
        require_name(name, field="limited_to", what="a module")
    if limited_to and not namespaces_readable_by(user).filter(name__iexact=owner).exists():
        message = (
            f"You do not belong to “{owner[:40]}”. Write your own name, or that of an organization of yours."
        )
        raise Refusal("bad_limit", message, fields={"limited_to": [message]})


def new_token() -> str:
    """“lh_”, 40 random characters, and a CRC-32 of them, so that a scanner can tell a real token offline."""
    random_part = "".join(secrets.choice(BASE62) for _ in range(TOKEN_RANDOM_LENGTH))
    return f"{TOKEN_PREFIX}{random_part}{zlib.crc32(random_part.encode()):08x}"


def token_revoke(*, user: User, token_id: int) -> None:
    revoke(user, ApiToken.objects.filter(pk=token_id))


def tokens_revoke(*, user: User) -> None:
    """Revoke all tokens of an account."""
    revoke(user, ApiToken.objects.all())


@transaction.atomic
def revoke(user: User, tokens: QuerySet[ApiToken]) -> None:
    for token in tokens.select_for_update().filter(user=user, revoked_at=None):
        token.revoked_at = database_now()
        token.save(update_fields=["revoked_at", "updated_at"])
        audit_record(actor=user, action="token.revoke", subject=str(token), thing=user)


@transaction.atomic
def account_suspend(*, staff: User, account: User, reason: str) -> None:
    """Close an account until staff restore it: its sign-in, its tokens, its sessions, its modules."""
    if account.is_staff:
        message = "This account belongs to staff. Take away its staff rights in the administration first."
        raise Refusal("is_staff", message, status=409)
    row = User.objects.select_for_update().get(pk=account.pk)
    if row.deleted_at is not None:
        raise Refusal("account_deleted", "This account was deleted by its owner.", status=409)
    if row.suspended_at is not None:
        raise Refusal("already_suspended", f"{row.username} is suspended already.", status=409)
    row.is_active, row.suspended_at, row.suspension_reason = False, database_now(), reason
    row.save(update_fields=["is_active", "suspended_at", "suspension_reason"])
    audit_record(actor=staff, action="account.suspend", subject=row.username, thing=row, reason=reason)
    account.refresh_from_db()


@transaction.atomic
def account_restore(*, staff: User, account: User, reason: str = "") -> None:
    """End a suspension: sign-in, tokens and modules are as before."""
    row = User.objects.select_for_update().get(pk=account.pk)
    if row.suspended_at is None:
        raise Refusal("not_suspended", f"{row.username} is not suspended.", status=409)
    row.is_active, row.suspended_at, row.suspension_reason = True, None, ""
    row.save(update_fields=["is_active", "suspended_at", "suspension_reason"])
    audit_record(actor=staff, action="account.restore", subject=row.username, thing=row, reason=reason)
    account.refresh_from_db()
