"""Stands in front of Django: caps the headers of a request, and watches its body come in.

Under ASGI Django spools the whole body to disk before any middleware or view runs, and the server has
no time limit for it. So here, before that: a cap on headers and cookies (431), a cap for each kind of
address (413), large ones only for those who may upload (401, 403), a least speed (408), and a cap on what
all visitors together are sending at one moment (503).
"""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.template.loader import render_to_string

from hub_site.common.metrics import count_refusal
from hub_site.common.os_faults import DISK_FULL, ERRNOS_OF_A_FULL_DISK
from hub_site.common.security_headers import SECURITY_HEADERS
from hub_site.common.site_faults import (
    RETRY_AFTER_S,
    SENTENCES,
    STATUSES,
    http_status,
    site_fault_code,
    visitor_text,
)

logger = logging.getLogger(__name__)
Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MB = 1_000_000
KB = 1_000
HEADERS_MAX_BYTES = 32 * KB
COOKIES_MAX_BYTES = 8 * KB  # Python before 3.11.10 takes time quadratic in an escaped cookie (CVE-2024-7592)
FORM_MAX_BYTES = 1 * MB
EXAMPLES_MAX_BYTES = 12 * MB  # few-shot examples as rows of a form, or as a file
GRACE_S = 20.0  # unless told: a slow phone on a bad line may be silent this long
LOGGED_PATH_CHARACTERS = 200
LINGER_S = 10.0  # how long a refused body may still come in, to no effect
LEAST_BYTES_PER_S = 16 * 1024
PAGE_POLICY = b"default-src 'none'; " + b"; ".join(
    kind + b"-src 'self'" for kind in (b"style", b"script", b"font", b"img")
)

JSON_MAX_BYTES = (
    4 * MB
)  # what is said of files before they are sent: 256 of a Hub client, a folder of the form

UPLOADS = re.compile(
    r"/(modules/(new|check)/|api/v1/modules(/[^/]+/[^/]+/versions)?|[^/]+/[^/]+/upload|lfs/[^/]+)"
)
STORING_METHODS = ("POST", "PUT")  # the others of these addresses read, change words or free space
CHECKS = re.compile(r"/modules/check/")  # the beginning of an upload, before the rest is sent
COMMITS = re.compile(r"/api/models/.+/commit/.+", re.DOTALL)  # files as base64 within JSON
HUB_JSON = re.compile(r"/api/(?!v1/).*|/.+\.git/info/lfs/.*", re.DOTALL)
HUB = re.compile(r"/api/(?!v1/).*|/.+\.git/info/lfs/.*|/lfs/.*", re.DOTALL)
EXAMPLES = re.compile(r"/(compositions/.*|api/v1/compositions(/.*)?)")


class BodyRefused(Exception):
    """The body is too large, too slow, or one too many. The message is for whoever sent it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class BodyGate:
    """An ASGI application around another one.

    Args:
        application: what answers once the body may pass.
        upload_max_bytes: the cap where module files are uploaded.
        commit_max_bytes: the cap of a Hub client's commit, with files as base64 in it.
        in_flight_max_bytes: of all bodies that are coming in at one moment.
        why_not: what is said to whoever may not send as much, None to all others; asked before a large
            body comes in.
        is_disk_low: whether an upload is refused for want of space.
        grace_s, least_bytes_per_s: in any window of time a body may fall behind least_bytes_per_s by
            grace_s seconds, however fast it came before.
    """

    def __init__(
        self,
        application: Application,
        *,
        upload_max_bytes: int,
        commit_max_bytes: int,
        in_flight_max_bytes: int,
        why_not: Callable[[Scope], Awaitable[BodyRefused | None]],
        is_disk_low: Callable[[], bool],
        grace_s: float = GRACE_S,
        least_bytes_per_s: float = LEAST_BYTES_PER_S,
    ) -> None:
        self.application = application
        self.upload_max_bytes, self.commit_max_bytes = upload_max_bytes, commit_max_bytes
        self.why_not, self.is_disk_low = why_not, is_disk_low
        self.grace_s, self.least_bytes_per_s = grace_s, least_bytes_per_s
        self.in_flight_bytes = 0
        self.in_flight_max_bytes = in_flight_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        body = WatchedBody(self, receive, cap_bytes=self.cap_bytes(scope["path"]))
        try:
            require_small_headers(scope)
            body.require_declared_length_within_cap(scope)
            if is_upload(scope["path"]) and scope["method"] in STORING_METHODS:
                await self.require_disk_space()
            if is_upload(scope["path"]) and needs_permission(scope):
                body.forbidden = await self.ask_why_not(scope)
                body.require_permission(declared_length(scope) or 0)
            await self.application(scope, body.receive, send)
        except BodyRefused as refusal:
            await send_refusal(refusal, scope, send, linger=body.let_pass)
        except OSError as error:  # from keeping the body, before any view ran
            if error.errno not in ERRNOS_OF_A_FULL_DISK:
                raise
            await send_refusal(disk_is_full(), scope, send, linger=body.let_pass)
        finally:
            self.in_flight_bytes -= body.received_bytes

    async def ask_why_not(self, scope: Scope) -> BodyRefused | None:
        """Ask; a fault of the site is itself a refusal."""
        try:
            return await self.why_not(scope)
        except Exception as error:
            code = site_fault_code(error)
            if code is None:
                raise
            raise BodyRefused(http_status(code), code, visitor_text(code)) from error

    async def require_disk_space(self) -> None:
        """Look from a thread: a disk on a network may hang, and nobody else's request shall wait for it."""
        if await asyncio.to_thread(self.is_disk_low):
            raise disk_is_full()

    def cap_bytes(self, path: str) -> int:
        if CHECKS.fullmatch(path):
            return JSON_MAX_BYTES
        if UPLOADS.fullmatch(path):
            return self.upload_max_bytes
        if COMMITS.fullmatch(path):
            return self.commit_max_bytes
        if HUB_JSON.fullmatch(path):
            return JSON_MAX_BYTES
        if EXAMPLES.fullmatch(path):
            return EXAMPLES_MAX_BYTES
        return FORM_MAX_BYTES


class WatchedBody:
    """The body of one request while it comes in. Raises BodyRefused out of receive()."""

    def __init__(self, gate: BodyGate, receive: Receive, *, cap_bytes: int) -> None:
        self.gate, self.receive_from_client, self.cap_bytes = gate, receive, cap_bytes
        self.received_bytes = 0
        self.is_complete = False
        self.forbidden: BodyRefused | None = None
        self.patience_s = gate.grace_s  # how long the next bytes may take

    def require_declared_length_within_cap(self, scope: Scope) -> None:
        length = declared_length(scope)
        if length is not None and not 0 <= length <= self.cap_bytes:
            raise self.too_large()

    def require_permission(self, n_bytes: int) -> None:
        if self.forbidden is not None and n_bytes > FORM_MAX_BYTES:
            raise self.forbidden

    async def receive(self) -> Message:
        if self.is_complete:  # from here on Django only waits for the visitor to leave
            return await self.receive_from_client()
        began_s = time.monotonic()
        try:
            message = await asyncio.wait_for(self.receive_from_client(), self.patience_s)
        except TimeoutError:
            raise BodyRefused(
                408, "too_slow", "The upload was too slow and was stopped. Try again."
            ) from None
        self.patience_s -= time.monotonic() - began_s
        if message["type"] == "http.request":
            self.count(len(message.get("body", b"")))
        self.is_complete = not message.get("more_body", False)
        return message

    async def let_pass(self) -> None:
        """Read on and keep nothing: a browser shows the answer only once it has sent what it had to send."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self.is_complete:
                    message = await self.receive_from_client()
                    self.is_complete = not message.get("more_body", False)

    def count(self, n_bytes: int) -> None:
        self.received_bytes += n_bytes
        earned_s = n_bytes / self.gate.least_bytes_per_s
        self.patience_s = min(self.gate.grace_s, max(0.0, self.patience_s) + earned_s)
        self.gate.in_flight_bytes += n_bytes
        if self.received_bytes > self.cap_bytes:
            raise self.too_large()
        self.require_permission(self.received_bytes)
        if self.gate.in_flight_bytes > self.gate.in_flight_max_bytes:
            raise BodyRefused(503, "busy", "Too many uploads at once. Try again in a minute.")

    def too_large(self) -> BodyRefused:
        return BodyRefused(
            413, "too_large", f"Too large: at most {self.cap_bytes // MB} MB can be sent here."
        )


def require_small_headers(scope: Scope) -> None:
    sizes = [(name, len(name) + len(value)) for name, value in scope["headers"]]
    cookies_bytes = sum(size for name, size in sizes if name == b"cookie")
    if cookies_bytes > COOKIES_MAX_BYTES:
        raise BodyRefused(
            431, "cookies_too_large", "Your browser sends too many cookies for this site. Please delete them."
        )
    if sum(size for _, size in sizes) > HEADERS_MAX_BYTES:
        raise BodyRefused(
            431, "headers_too_large", f"The headers are too large: at most {HEADERS_MAX_BYTES // KB} KB."
        )


def disk_is_full() -> BodyRefused:
    return BodyRefused(507, DISK_FULL, f"{SENTENCES[DISK_FULL]} Please try again later.")


def is_upload(path: str) -> bool:
    return bool(UPLOADS.fullmatch(path) or COMMITS.fullmatch(path))


def declared_length(scope: Scope) -> int | None:
    """What the client says it will send; None if it does not say, -1 if that is no number."""
    declared = dict(scope["headers"]).get(b"content-length")
    if declared is None:
        return None
    return int(declared[:20]) if declared.isdigit() else -1


def needs_permission(scope: Scope) -> bool:
    """Whether more than a form's worth may come; asking costs a look into the database."""
    length = declared_length(scope)
    return scope["method"] not in ("GET", "HEAD") and (length is None or length > FORM_MAX_BYTES)


def asks_for_json(scope: Scope) -> bool:
    return dict(scope["headers"]).get(b"accept") == b"application/json"


async def send_refusal(
    refusal: BodyRefused, scope: Scope, send: Send, *, linger: Callable[[], Awaitable[None]]
) -> None:
    said = (scope["method"], scope["path"][:LOGGED_PATH_CHARACTERS], refusal.status, refusal.code, refusal)
    logger.warning("%s %s refused: %s %s: %s", *said)
    count_refusal(refusal.code)
    extra: list[tuple[bytes, bytes]] = []
    if HUB.fullmatch(scope["path"]):
        kind = b"application/json"
        body = json.dumps({"error": str(refusal)})
        extra = [(b"x-error-message", str(refusal).encode("ascii"))]  # what Hub clients print
    elif scope["path"].startswith("/api/") or asks_for_json(scope):
        kind = b"application/json"
        body = json.dumps({"error": {"code": refusal.code, "message": str(refusal)}})
    else:
        kind = b"text/html; charset=utf-8"
        body = render_to_string("not_accepted.html", {"status": refusal.status, "message": str(refusal)})
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body.encode())).encode()),
        (b"content-security-policy", PAGE_POLICY),
        *((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),  # the rest of the body is of no interest
        *extra,
    ]
    if refusal.status in STATUSES:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode(), "more_body": True})
    if refusal.status != HTTPStatus.REQUEST_TIMEOUT:
        await linger()
    await send({"type": "http.response.body", "body": b""})
