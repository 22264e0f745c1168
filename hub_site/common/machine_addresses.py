"""What machines ask each process of the site by an address of its own: probes, and Prometheus.

They come without TLS, by an address that no visitor uses, every few seconds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

MACHINE_ADDRESSES = ("/health/", "/health/live", "/health/ready", "/metrics")
OWN_NAME = "localhost"  # one of ALLOWED_HOSTS, whatever else is


class MachineAddressesMiddleware:
    """Lets these be asked by any name or address of the process: no answer there depends on it."""

    def __init__(self, get_response: "Callable[[HttpRequest], HttpResponseBase]") -> None:
        self.get_response = get_response

    def __call__(self, request: "HttpRequest") -> "HttpResponseBase":
        if request.path in MACHINE_ADDRESSES:
            request.META["HTTP_HOST"] = OWN_NAME
        return self.get_response(request)
