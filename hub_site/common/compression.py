"""Text is sent compressed to who can read that, unless the answer holds a secret.

The length of a compressed page tells what in it repeats: who can make a person's browser ask again and again,
with words of their own in the address, could find out a secret on the page (BREACH). The tokens that guard
forms are masked anew in every answer, so they tell nothing.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import patch_cache_control

P = ParamSpec("P")
Answer = TypeVar("Answer", bound=HttpResponseBase)

# Links of mails and access tokens stand on pages below these.
SECRET_PREFIXES = ("/accounts/", "/settings/")
NO_TRANSFORM = "no-transform"  # says the same to a proxy in front of the site
COMPRESSED_TYPES = frozenset({
    *("text/html", "text/css", "text/javascript", "text/plain", "text/markdown", "text/csv"),
    *("application/javascript", "application/json", "application/x-ndjson", "image/svg+xml"),
    *("application/vnd.oai.openapi", "application/vnd.oai.openapi+json"),
})  # fmt: skip


class CompressionMiddleware(GZipMiddleware):
    """Compresses whole answers of text to GET and HEAD. Streams and downloads go out as they are."""

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        if not is_compressible(request, response):
            return response
        return super().process_response(request, response)


def is_compressible(request: HttpRequest, response: HttpResponseBase) -> bool:
    return (
        not response.streaming
        and request.method in ("GET", "HEAD")
        and not request.path.startswith(SECRET_PREFIXES)
        and response.headers.get("Content-Type", "").partition(";")[0].strip() in COMPRESSED_TYPES
        and NO_TRANSFORM not in response.headers.get("Cache-Control", "").lower().replace(" ", "").split(",")
    )


def never_compress(response: HttpResponseBase) -> None:
    """Mark an answer that holds a secret; nobody keeps it either."""
    patch_cache_control(response, private=True, no_store=True, no_transform=True)


def never_compressed(view: Callable[P, Answer]) -> Callable[P, Answer]:
    """Mark every answer of a view."""

    @wraps(view)
    def marked(*args: P.args, **kwargs: P.kwargs) -> Answer:
        response = view(*args, **kwargs)
        never_compress(response)
        return response

    return marked
