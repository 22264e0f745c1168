"""What every view of the protocol stands behind: who calls, which methods, errors as clients read them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from hub_site.accounts.authentication import note_use
from hub_site.accounts.models import ApiToken, User
from hub_site.accounts.selectors import token_find
from hub_site.common.errors import Refusal
from hub_site.common.json_bodies import JsonBodyError, is_storable, read_json
from hub_site.common.site_faults import site_fault_code
from modules_registry import selectors
from modules_registry.hub_api.errors import (
    HubProtocolError,
    error_response,
    from_refusal,
    from_site_fault,
    repo_not_found,
    revision_not_found,
)
from modules_registry.models import BaseModel, Module, Version

JSON_BYTES_MAX = 4_000_000  # 256 files with a sample each, and a .gitignore
SAFE = ("GET", "HEAD")
UNREADABLE = (BadRequest, MultiPartParserError, SuspiciousOperation)
READS_ONLY = "This token may only read. Make one with write access under /settings/tokens/."
BAD_TOKEN = "Invalid credentials in Authorization header"  # clients look for these very words

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who sent the request; an anonymous one has no user."""

    user: User | None = None
    token: ApiToken | None = None

    def require_user(self) -> User:
        if self.user is None:
            raise HubProtocolError(
                401, "Sign in first: hf auth login --token lh_... (make one under /settings/tokens/)."
            )
        return self.user

    def viewer_of(self, address: str) -> User | None:
        """Who looks at an owner's things, or at a module: nobody, where the token is limited to others."""
        return self.user if self.token is None or self.token.covers(address) else None

    def require_covered(self, address: str) -> None:
        if self.token is not None and not self.token.covers(address):
            raise HubProtocolError(403, f"This token is limited to {self.token.limited_to}.")

    def require_writer(self) -> User:
        user = self.require_user()
        if self.token is None or not self.token.may_write:
            raise HubProtocolError(403, READS_ONLY)
        return user


ProtocolView = Callable[..., HttpResponseBase]


def hub_view(*methods: str) -> Callable[[ProtocolView], ProtocolView]:
    """Let a view answer these methods; it is given the caller, and may raise HubProtocolError and Refusal.

    Programs come with a token, so there is no cookie that a foreign page could misuse: a browser's session
    counts for reading only.
    """

    def decorate(view: ProtocolView) -> ProtocolView:
        @csrf_exempt
        @wraps(view)
        def answer(request: HttpRequest, **named: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    raise HubProtocolError(
                        405, f"Only {', '.join(methods)} here.", headers={"Allow": ", ".join(methods)}
                    )
                return view(request, caller_of(request), **named)
            except Exception as error:  # noqa: BLE001  a client gets an error of its protocol
                return error_response(protocol_error(request, error))

        answer.reads_any_address = True  # type: ignore[attr-defined]  # it has errors of its own for them
        return answer

    return decorate


def protocol_error(request: HttpRequest, error: Exception) -> HubProtocolError:
    """What a client is told of an error; the operator finds in the log what is no refusal."""
    if isinstance(error, HubProtocolError):
        return error
    if isinstance(error, Refusal):
        return from_refusal(error)
    if isinstance(error, UNREADABLE):
        return HubProtocolError(400, "The request cannot be read.")
    logger.error("%s %s", request.method, request.path, exc_info=error)
    if code := site_fault_code(error):
        return from_site_fault(code)
    return HubProtocolError(500, "Something went wrong on this site. Try again later.")


def caller_of(request: HttpRequest) -> Caller:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = token_find(text.strip())
        if token is None:
            raise HubProtocolError(401, BAD_TOKEN)
        note_use(token)
        return Caller(token.user, token)
    if request.method in SAFE and isinstance(request.user, User):
        return Caller(request.user)
    return Caller()


def program_of(request: HttpRequest) -> str:
    """The client's program, as the beginning of its User-Agent names it: “huggingface-cli”."""
    return request.headers.get("User-Agent", "").partition("/")[0]


def json_of(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object."""
    data = request.read(JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise HubProtocolError(413, "This is too large for JSON.")
    try:
        value = read_json(data or b"{}", is_stored=False)  # names of by-products may be anything
    except JsonBodyError as error:
        raise HubProtocolError(400, str(error)) from error
    if not isinstance(value, dict):
        raise HubProtocolError(400, "The body must be a JSON object.")
    return value


def text_of(asked: dict[str, Any], name: str, default: str = "", *, length_max: int = 300) -> str:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > length_max or not is_storable(value):
        raise HubProtocolError(400, f"{name} must be a text of at most {length_max} characters.")
    return value


def repository(full_name: str, caller: Caller) -> Module | BaseModel:
    """The module or base model of that name, for someone who may see it."""
    owner, _, name = full_name.rpartition("/")
    viewer, found = caller.viewer_of(full_name), None
    if selectors.is_storable(full_name):
        found = selectors.module_find(owner, name, viewer) or selectors.base_named(full_name)
        if found is None:
            selectors.require_not_held(owner, name, viewer)
    if found is None:
        raise repo_not_found(full_name)
    return found


def require_writable_module(full_name: str, caller: Caller) -> tuple[User, Module]:
    """The module, for someone who may change it. What they may not even see does not exist."""
    user, found = caller.require_writer(), repository(full_name, caller)
    if isinstance(found, BaseModel):
        raise HubProtocolError(403, f"{found} is a base model of the library. Only staff change those.")
    caller.require_covered(found.full_name)
    if not selectors.namespace_is_writable_by(found.namespace, user):
        raise HubProtocolError(403, f"You cannot write to {found.full_name}: it is {found.namespace.name}'s.")
    return user, found


def at_revision(found: Module | BaseModel, revision: str) -> Version | BaseModel:
    source = selectors.revision_find(found, revision, prefers_tags=True)
    if source is None:
        raise revision_not_found(str(found), revision)
    return source


def empty(status: int = 200) -> HttpResponse:
    return HttpResponse("{}", status=status, content_type="application/json")
