"""Every request is counted by its route, so that names and ids in an address make no series of their own."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from hub_site.common.metrics import REQUEST_SECONDS, REQUESTS

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"  # no address of the site, or refused before it was looked for


class RequestMetricsMiddleware:
    """Around all others, whose time it counts. Of a download or a stream: until it begins."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began_s = time.perf_counter()
        response = self.get_response(request)
        method = str(request.method) if request.method in METHODS else "other"
        route = f"/{request.resolver_match.route}" if request.resolver_match else NO_ROUTE
        REQUESTS.labels(method, route, response.status_code).inc()
        REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - began_s)
        return response
