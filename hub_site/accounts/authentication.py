"""“Authorization: Bearer lh_…”: the same token serves our API and Hub clients."""

from datetime import timedelta
from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.db.models.functions import Now
from rest_framework import exceptions, permissions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.request import Request

from hub_site.accounts.models import ApiToken, User
from hub_site.accounts.selectors import token_find
from hub_site.common.site_faults import noting

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it would import this module, its own default

LAST_USED_RESOLUTION = timedelta(minutes=5)  # a busy token does not write a row per request


class SignedInSession(SessionAuthentication):
    """A signed-in browser, with CSRF checked; answers 401 rather than 403 to nobody at all."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerToken(BaseAuthentication):
    """A token. Outside of what it is limited to its bearer is nobody, who reads what is public."""

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, ApiToken] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        row = token_find(token.strip())
        if row is None:
            raise exceptions.AuthenticationFailed(
                "This token is unknown, revoked or expired. Create a new one under /settings/tokens/.",
                code="bad_token",
            )
        note_use(row)
        if row.covers(address_of(request)) or takes_limited_tokens(request):
            return row.user, row
        if request.method not in permissions.SAFE_METHODS:
            raise not_covered(row)
        return AnonymousUser(), row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def address_of(request: Request) -> str:
    """The module that a request is about, as “owner/name”; empty where it is about none."""
    named = request.parser_context["kwargs"]
    return f"{named['namespace']}/{named['name']}" if {"namespace", "name"} <= named.keys() else ""


def takes_limited_tokens(request: Request) -> bool:
    """Whether the view looks itself at what the token is limited to, for this method."""
    return request.method in getattr(request.parser_context["view"], "methods_of_limited_tokens", ())


def require_covered(auth: object, address: str) -> None:
    """Refuse a token that is limited to something else."""
    if isinstance(auth, ApiToken) and not auth.covers(address):
        raise not_covered(auth)


def not_covered(token: ApiToken) -> exceptions.PermissionDenied:
    return exceptions.PermissionDenied(f"This token is limited to {token.limited_to}.", code="token_limited")


def note_use(row: ApiToken) -> None:
    """Keep when the token was used last. A database that takes no changes keeps nobody from reading."""
    now = Now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    with noting(f"the use of token {row.pk}"):
        ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=now)


class TokenScope(permissions.BasePermission):
    """A read token reads; everything else needs a write token or a signed-in session."""

    message = "This token may only read. Create one with the scope “write” under /settings/tokens/."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        token = request.auth
        return (
            request.method in permissions.SAFE_METHODS or not isinstance(token, ApiToken) or token.may_write
        )
