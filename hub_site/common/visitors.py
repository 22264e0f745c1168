"""Who asks without an account: what a request tells of them is kept as keyed hashes only."""

from django.http import HttpRequest
from django.utils.crypto import salted_hmac


def keyed_hash(kind: str, value: str) -> str:
    """Return 64 hexadecimal digits that only this site's key makes of the value."""
    return salted_hmac(f"try {kind}", value, algorithm="sha256").hexdigest()


def address_hash(request: HttpRequest) -> str:
    return keyed_hash("address", str(request.META.get("REMOTE_ADDR", "")))
