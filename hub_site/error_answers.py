"""Errors under /api/ are JSON, whoever makes them: a view, Django itself, or a library's page.

A refusal that a page's view does not show in a form of its own is a page.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from hub_site.common.api_errors import error_body
from hub_site.common.errors import Refusal
from hub_site.common.json_bodies import is_storable

API, ALSO_HUB_API = "/api/v1/", "/api/"
SENTENCES = {
    400: "The request cannot be read. Nothing was changed.",
    404: "Not found, or not visible to you.",
    500: "Something went wrong on this site. Try again later.",
}


class ApiErrorsMiddleware:
    """Puts JSON in the place of an error under /api/ that is something else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code < 400 or not request.path.startswith(ALSO_HUB_API):
            return response
        if response.headers.get("Content-Type", "").startswith("application/json"):
            return response
        return in_json(request, response)


class RefusalMiddleware:
    """Shows a refusal that a page's view raised. The API and the Hub protocol answer in their own shapes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, Refusal):
            return None
        if request.headers.get("Accept") == "application/json":
            body = error_body(error.code, error.message, error.fields)
            return JsonResponse(body, status=error.status, headers=error.headers)
        context = {"status": error.status, "message": error.message}
        answer = render(request, "refused.html", context, status=error.status)
        for name, value in error.headers.items():
            answer[name] = value
        return answer


class AddressMiddleware:
    """Answers 404 to an address that holds what is no text: no row can have it in its name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: object, kwargs: object) -> None:
        if not is_storable(request.path) and not getattr(view, "reads_any_address", False):
            raise Http404


def in_json(request: HttpRequest, response: HttpResponseBase) -> JsonResponse:
    """The same error in the API's shape; outside /api/v1/ in that of the Hub's protocol."""
    status = HTTPStatus(response.status_code)
    message = SENTENCES.get(status, f"{status.phrase}. {status.description}".strip())
    if request.path.startswith(API):
        body = error_body(status.phrase.lower().replace(" ", "_"), message)
    else:
        body = {"error": message}
        response.headers["X-Error-Message"] = message
    kept = {name: value for name, value in response.items() if name not in ("Content-Type", "Content-Length")}
    return JsonResponse(body, status=status, headers=kept)
