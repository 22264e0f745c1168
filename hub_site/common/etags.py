"""JSON under /api/ carries an ETag: who has the same bytes already is answered 304 without them."""

import hashlib
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response

PREFIX = "/api/"


class JsonEtagMiddleware:
    """Names each whole JSON answer by its sha256, and compares it with If-None-Match."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not is_json_answer(request, response):
            return response
        etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'  # type: ignore[attr-defined]
        response.headers["ETag"] = etag
        return get_conditional_response(request, etag=etag, response=response)  # type: ignore[arg-type,return-value]


def is_json_answer(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether it is a success that reads something, in JSON, and that names no version of its own."""
    return (
        request.method in ("GET", "HEAD")
        and request.path.startswith(PREFIX)
        and response.status_code == 200
        and not response.streaming
        and "ETag" not in response.headers
        and response.headers.get("Content-Type", "").startswith("application/json")
    )
