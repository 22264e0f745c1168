"""What a request does while it waits for another server: it keeps no connection to the database."""

from collections.abc import Callable
from contextvars import ContextVar

from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_is_answering: ContextVar[bool] = ContextVar("is_answering", default=False)


class WaitingRequestsMiddleware:
    """Lets the code of a request know that somebody waits for the answer. Workers and commands have time."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before = _is_answering.set(True)
        try:
            return self.get_response(request)
        finally:
            _is_answering.reset(before)


def is_answering_request() -> bool:
    return _is_answering.get()


def give_connection_back() -> None:
    """Give this thread's connection back to the pool; its next query takes another one.

    Within a transaction it stays: who asks another server there has asked it before, too.
    """
    if not connection.in_atomic_block:
        connection.close()
