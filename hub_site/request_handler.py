"""Django's handler of requests, with the whole of a request in one thread."""

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class OneThreadHandler(ASGIHandler):
    """Runs all middleware and the view in one go, in the request's thread.

    Django's own handler goes back to the event loop around every middleware that could be asynchronous. Each
    time it waits there for whatever another request computes: a page cost half as much again. Answers that
    stream are sent by the event loop, as Django does.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response, thread_sensitive=True)(request)
        return response
