"""Pages that every stranger sees alike, kept for some seconds: rendered once for many readers.

A kept page is given out only while nothing was done since that the audit records: what somebody publishes,
hides, renames or deletes, and what staff hold, shows at once. What it does not record, as likes, downloads
and measurements, shows after HUB_PAGES_KEPT_S.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from hub_site.audit.models import AuditEntry

KEPT_MAX_BYTES = 32_000_000  # in one process
ADDRESS_LENGTH_MAX = 500
ENTRIES_COMPARED = 50  # the latest: one that is committed late still changes them

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase]
Changes = tuple[int, ...]


@dataclass(frozen=True)
class KeptPage:
    content: bytes
    headers: dict[str, str]
    changes: Changes  # that were recorded before it was rendered
    at_s: float


class KeptPages:
    """The pages read last, up to KEPT_MAX_BYTES. Several threads use it."""

    def __init__(self) -> None:
        self.pages: OrderedDict[tuple[Any, ...], KeptPage] = OrderedDict()
        self.size_bytes = 0
        self.lock = Lock()

    def get(self, key: tuple[Any, ...], changes: Changes) -> KeptPage | None:
        with self.lock:
            page = self.pages.get(key)
            if page is None:
                return None
            if page.changes != changes or time.monotonic() - page.at_s > settings.HUB_PAGES_KEPT_S:
                self.drop(key)
                return None
            self.pages.move_to_end(key)
            return page

    def keep(self, key: tuple[Any, ...], page: KeptPage) -> None:
        with self.lock:
            self.drop(key)
            self.pages[key] = page
            self.size_bytes += len(page.content)
            while self.size_bytes > KEPT_MAX_BYTES:
                self.drop(next(iter(self.pages)))

    def drop(self, key: tuple[Any, ...]) -> None:
        page = self.pages.pop(key, None)
        self.size_bytes -= len(page.content) if page is not None else 0


kept_pages = KeptPages()


def kept_for_strangers(view: View[Arguments]) -> View[Arguments]:
    """Decorate a view whose page depends on its address alone for who is not signed in and sends no token."""

    @wraps(view)
    def answer(
        request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> HttpResponseBase:
        if not settings.HUB_PAGES_KEPT_S or not is_stranger(request):
            return view(request, *args, **kwargs)
        key = (request.scheme, request.get_host(), request.get_full_path(), *hints_of_htmx(request))
        changes = last_changes()
        kept = kept_pages.get(key, changes)
        if kept is not None:
            response = HttpResponse(kept.content, headers=kept.headers)
            patch_vary_headers(response, ("Cookie",))
            return response
        rendered = view(request, *args, **kwargs)
        if isinstance(rendered, HttpResponse) and is_for_all(request, rendered):
            headers = dict(rendered.headers)
            kept_pages.keep(key, KeptPage(rendered.content, headers, changes, time.monotonic()))
        return rendered

    return answer


def is_stranger(request: HttpRequest) -> bool:
    return (
        request.method == "GET"
        and set(request.COOKIES) <= {settings.CSRF_COOKIE_NAME}
        and "HTTP_AUTHORIZATION" not in request.META
        and len(request.get_full_path()) <= ADDRESS_LENGTH_MAX
    )


def hints_of_htmx(request: HttpRequest) -> tuple[str, ...]:
    return tuple(request.META.get(name, "") for name in ("HTTP_HX_REQUEST", "HTTP_HX_TARGET"))


def is_for_all(request: HttpRequest, response: HttpResponse) -> bool:
    """Whether it is a page, and holds nothing of this visitor's, as a token of a form."""
    is_ones_own = bool(response.cookies) or "CSRF_COOKIE_NEEDS_UPDATE" in request.META
    return response.status_code == 200 and not is_ones_own


def last_changes() -> Changes:
    return tuple(AuditEntry.objects.order_by("-pk").values_list("pk", flat=True)[:ENTRIES_COMPARED])
