"""Who asks, as a request tells it. Sessions and addresses are kept as keyed hashes only."""

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from composer.trying.selectors import Asker
from hub_site.accounts.models import User


def asker_of(request: HttpRequest) -> Asker:
    """The account, or the browser; one without a session yet owns no question."""
    if isinstance(request.user, User):
        return Asker(request.user)
    session = request.session.session_key or ""
    return Asker(None, hashed("session", session) if session else "", hashed("address", address_of(request)))


def new_asker_of(request: HttpRequest) -> Asker:
    """As asker_of; a visitor's browser gets a session, by which it finds its questions again."""
    if not isinstance(request.user, User) and not request.session.session_key:
        request.session.create()
    return asker_of(request)


def address_of(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def hashed(kind: str, value: str) -> str:
    return salted_hmac(f"try {kind}", value, algorithm="sha256").hexdigest()
