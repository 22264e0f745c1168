"""“Authorization: Bearer lh_…”: the same token serves our API and Hub clients."""

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Q
from django.utils import timezone
from rest_framework import exceptions, permissions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.request import Request

from hub_site.accounts.models import ApiToken, User
from hub_site.accounts.selectors import token_find

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it would import this module, its own default

LAST_USED_RESOLUTION = timedelta(minutes=5)  # a busy token does not write a row per request


class SignedInSession(SessionAuthentication):
    """A signed-in browser, with CSRF checked; answers 401 rather than 403 to nobody at all."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerToken(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        row = token_find(token.strip())
        if row is None:
            raise exceptions.AuthenticationFailed(
                "This token is unknown, revoked or expired. Make a new one under /settings/tokens/.",
                code="bad_token",
            )
        note_use(row)
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def note_use(row: ApiToken) -> None:
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=now)


class TokenScope(permissions.BasePermission):
    """A read token reads; everything else needs a write token or a signed-in session."""

    message = "This token may only read. Make one with the scope “write” under /settings/tokens/."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        token = request.auth
        return (
            request.method in permissions.SAFE_METHODS or not isinstance(token, ApiToken) or token.may_write
        )
