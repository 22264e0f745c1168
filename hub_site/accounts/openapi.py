"""How the API's description presents the two ways to sign in."""

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension


class BearerTokenScheme(OpenApiAuthenticationExtension):
    target_class = "hub_site.accounts.authentication.BearerToken"
    name = "bearerToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token from /settings/tokens/, sent as “Authorization: Bearer lh_…”.",
        }


class SignedInSessionScheme(SessionScheme):
    target_class = "hub_site.accounts.authentication.SignedInSession"
    name = "session"
