"""What the site's middleware adds to a request, for the annotations of views."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class PageRequest(HttpRequest):
    """A request for a page or for a part of one."""

    htmx: HtmxDetails
