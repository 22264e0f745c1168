"""Repositories through the protocol: create, delete, rename, hide, branch, tag."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.selectors import namespace_by_name
from hub_site.common.errors import Refusal
from modules_registry import selectors
from modules_registry.hub_api.errors import (
    HubProtocolError,
    error_response,
    from_refusal,
    not_supported,
    revision_not_found,
)
from modules_registry.hub_api.protocol import (
    SAFE,
    Caller,
    at_revision,
    empty,
    hub_view,
    json_of,
    program_of,
    repository,
    require_writable_module,
    text_of,
)
from modules_registry.models import Module, Ref, Version
from modules_registry.repositories import (
    ref_create,
    ref_delete,
    repository_create,
    repository_hide,
    repository_keep,
    repository_move,
)
from modules_registry.services import module_delete, require_writable

NO_SUCH_ADDRESS = "This site does not answer that address of the Hub. See /help/hub/ for what it does."
EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@hub_view("POST")
def create(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Begin a module. If it exists, the answer is 409 with its address, which clients take for success.

    A name that is taken by something else is 400: of a 409 clients read the address without looking.
    """
    user, asked = caller.require_writer(), json_of(request)
    require_model(asked)
    namespace, name = place_asked(user, text_of(asked, "organization"), text_of(asked, "name"))
    caller.require_covered(f"{namespace.name}/{name}")
    require_writable(user, namespace)
    private = visibility_asked(asked)
    try:
        module = repository_create(
            author=user,
            namespace=namespace,
            name=name,
            private=bool(private),
            begun_with=program_of(request),
        )
    except Refusal as refusal:
        there = selectors.module_find(namespace.name, name, user)
        if there is not None and refusal.status == 409:
            repository_keep(there)
            return error_response(from_refusal(refusal), **place(request, there))
        raise HubProtocolError(400 if refusal.status == 409 else refusal.status, refusal.message) from refusal
    return JsonResponse(place(request, module))


def place(request: HttpRequest, module: Module) -> dict[str, Any]:
    address = request.build_absolute_uri(f"/{module.full_name}")
    return {"url": address, "name": module.full_name, "id": f"{module.pk:024x}", "private": module.private}


def place_asked(user: User, owner: str, name: str) -> tuple[Namespace, str]:
    """Where something is to be; “owner/name” in one text counts too."""
    if "/" in name and not owner:
        owner, _, name = name.partition("/")
    namespace = user.namespace
    if owner:
        found = namespace_by_name(owner)
        if found is None:
            raise HubProtocolError(403, f"You cannot write to {owner[:96]}: nobody here is called so.")
        namespace = found
    return namespace, name


def require_model(asked: dict[str, Any]) -> None:
    kind = asked.get("type") or "model"
    if kind != "model":
        raise not_supported(f"repositories of type {str(kind)[:20]}, only models")


def visibility_asked(asked: dict[str, Any]) -> bool | None:
    """Private or not, as new clients say it and as old ones do; None: nothing was said."""
    visibility = asked.get("visibility")
    if visibility is None:
        return bool(asked["private"]) if asked.get("private") is not None else None
    if visibility not in ("public", "private"):
        raise HubProtocolError(400, "visibility must be public or private.")
    return bool(visibility == "private")


@hub_view("DELETE")
def delete(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    user, asked = caller.require_writer(), json_of(request)
    require_model(asked)
    namespace, name = place_asked(user, text_of(asked, "organization"), text_of(asked, "name"))
    _, module = require_writable_module(f"{namespace.name}/{name}", caller)
    module_delete(editor=user, module=module)
    return empty()


@hub_view("POST")
def move(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    user, asked = caller.require_writer(), json_of(request)
    require_model(asked)
    _, module = require_writable_module(text_of(asked, "fromRepo"), caller)
    owner, slash, name = text_of(asked, "toRepo").partition("/")
    if not slash:
        raise HubProtocolError(400, "toRepo must be owner/name.")
    namespace, name = place_asked(user, owner, name)
    caller.require_covered(f"{namespace.name}/{name}")
    repository_move(editor=user, module=module, namespace=namespace, name=name)
    return empty()


@hub_view("PUT")
def settings(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    user, module = require_writable_module(repo, caller)
    asked = json_of(request)
    unknown = sorted(set(asked) - {"visibility", "private", "gated"})
    if asked.get("gated"):
        raise not_supported("gated repositories")
    if unknown:
        raise not_supported(f"setting {unknown[0][:40]}")
    private = visibility_asked(asked)
    if private is not None:
        repository_hide(editor=user, module=module, private=private)
    return JsonResponse({"private": module.private, "gated": False})


@hub_view("POST", "DELETE")
def branch(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    user, module = require_writable_module(repo, caller)
    if request.method == "DELETE":
        ref_remove(user, module, Ref.Kind.BRANCH, revision)
        return empty()
    start = text_of(json_of(request), "startingPoint", selectors.MAIN)
    version = version_at(module, start)
    ref_create(editor=user, module=module, kind=Ref.Kind.BRANCH, name=revision, version=version)
    return empty()


@hub_view("POST", "DELETE")
def tag(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """POST …/tag/{revision} {"tag": …} puts a tag there; DELETE …/tag/{tag} takes one away."""
    user, module = require_writable_module(repo, caller)
    if request.method == "DELETE":
        ref_remove(user, module, Ref.Kind.TAG, revision)
        return empty()
    asked, version = json_of(request), version_at(module, revision)
    message = text_of(asked, "message", length_max=10_000)
    name = text_of(asked, "tag")
    ref_create(editor=user, module=module, kind=Ref.Kind.TAG, name=name, version=version, message=message)
    return empty()


def version_at(module: Module, revision: str) -> Version:
    version = at_revision(module, revision)
    assert isinstance(version, Version), "a module's states are versions"
    return version


def ref_remove(user: User, module: Module, kind: Ref.Kind, name: str) -> None:
    try:
        ref_delete(editor=user, module=module, kind=kind, name=name)
    except Refusal as refusal:
        if refusal.status == 404:
            raise revision_not_found(module.full_name, name) from refusal
        raise


@hub_view(*EVERY_METHOD)
def unsupported_page(request: HttpRequest, caller: Caller, what: str, **named: str) -> HttpResponseBase:
    """A part of the Hub that is not here. Whatever was sent is not even read."""
    raise not_supported(what)


@hub_view(*EVERY_METHOD)
def other_kind(request: HttpRequest, caller: Caller, kind: str, rest: str = "") -> HttpResponseBase:
    """Datasets, spaces and the like: whoever looks for one finds none, and none is taken."""
    refusal = not_supported(f"{kind}, only models")
    if request.method in SAFE and rest:
        raise HubProtocolError(404, refusal.message, code="RepoNotFound")
    raise refusal


@hub_view(*EVERY_METHOD)
def nothing_here(request: HttpRequest, caller: Caller, repo: str = "", rest: str = "") -> HttpResponseBase:
    """What no other address took: a repository that is not here, or an unknown part of one that is."""
    repository(repo, caller)
    raise HubProtocolError(404, NO_SUCH_ADDRESS)


@hub_view(*EVERY_METHOD)
def no_such_address(request: HttpRequest, caller: Caller, rest: str) -> HttpResponseBase:
    raise HubProtocolError(404, NO_SUCH_ADDRESS)
