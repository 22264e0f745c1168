"""Answers that go on for as long as somebody reads them: downloads, and streams of events."""

from collections.abc import Callable

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class StreamingMiddleware:
    """Gives the request's connection to the database back before such an answer begins.

    Django itself would keep it until the end, so that a few slow readers have the whole pool. It is the
    outermost middleware: nothing after it asks the database.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.streaming and isinstance(request, ASGIRequest):
            connection.close()
        return response
