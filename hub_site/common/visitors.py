"""Who asks without an account: what a request tells of them is kept as keyed hashes only."""

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

SECRET = "try_secret"  # in a visitor's session: the key to the answers


def keyed_hash(kind: str, value: str) -> str:
    """Return 64 hexadecimal digits that only this site's key makes of the value."""
    return salted_hmac(f"try {kind}", value, algorithm="sha256").hexdigest()


def session_hash(request: HttpRequest) -> str:
    """Of a browser that has asked for something before; empty: it has not."""
    secret = request.session.get(SECRET, "")
    return keyed_hash("session", secret) if secret else ""


def address_hash(request: HttpRequest) -> str:
    return keyed_hash("address", str(request.META.get("REMOTE_ADDR", "")))
