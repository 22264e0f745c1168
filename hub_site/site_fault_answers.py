"""What is answered to a fault of the site: 503 or 507, and when to come back."""

import logging
import sys
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.views.defaults import server_error

from hub_site.common.api_errors import error_body
from hub_site.common.metrics import count_refusal
from hub_site.common.site_faults import RETRY_AFTER_S, STATUSES, http_status, site_fault_code, visitor_text

logger = logging.getLogger(__name__)


class SiteFaultMiddleware:
    """Answers for a view that a fault of the site broke off. Every 503 and 507 says when to come back."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        if answer.status_code in STATUSES:
            answer.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        return answer

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the answer; None for any other error, which Django logs and answers with 500."""
        code = site_fault_code(error)
        if code is None:
            return None
        logger.error("%s %s: %s: %s", request.method, request.path, code, error)
        return answer_site_fault(request, code)


def answer_broken(request: HttpRequest) -> HttpResponse:
    """Answer what broke outside a view, as a middleware that asks the database: Django's handler500."""
    error = sys.exc_info()[1]
    code = site_fault_code(error) if error else None
    return answer_site_fault(request, code) if code else server_error(request)


def answer_site_fault(request: HttpRequest, code: str) -> HttpResponse:
    """Return the answer in the shape of the address. Its page asks no database."""
    count_refusal(code)
    status, message = http_status(code), visitor_text(code)
    if request.path.startswith("/api/") or request.headers.get("Accept") == "application/json":
        answer: HttpResponse = JsonResponse(error_body(code, message), status=status)
    else:
        page = render_to_string("site_fault.html", {"status": status, "message": message})
        answer = HttpResponse(page, status=status)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer
