"""Likes through the protocol: like, take it back, who likes a module, what somebody likes."""

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from hub_site.accounts.selectors import namespace_by_name
from modules_registry import selectors
from modules_registry.hub_api.describe import date_of
from modules_registry.hub_api.errors import HubProtocolError
from modules_registry.hub_api.protocol import SAFE, Caller, empty, hub_view, repository
from modules_registry.models import Module
from modules_registry.popularity import likers_of, likes_of, module_like, module_unlike


@hub_view("POST", "DELETE")
def like(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    """Like a module, or with DELETE take it back."""
    user, module = caller.require_writer(), require_module(repo, caller)
    caller.require_covered(module.full_name)
    change = module_unlike if request.method == "DELETE" else module_like
    change(user=user, module=module)
    return empty()


@hub_view(*SAFE)
def likers(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    """The newest first."""
    names = [row.user.username for row in likers_of(require_module(repo, caller))]
    people = [{"user": name, "fullname": name, "avatarUrl": "", "type": "user"} for name in names]
    return JsonResponse(people, safe=False)


@hub_view(*SAFE)
def liked(request: HttpRequest, caller: Caller, name: str) -> HttpResponseBase:
    """What an account likes, of what the caller may see: the newest first."""
    namespace = namespace_by_name(name) if selectors.is_storable(name) else None
    if namespace is None or namespace.user is None:
        raise HubProtocolError(404, f"Nobody here is called {name[:96]}.")
    rows = likes_of(namespace.user, caller.viewer_of(namespace.name))
    return JsonResponse(
        [
            {"createdAt": date_of(row.created_at), "repo": {"name": row.module.full_name, "type": "model"}}
            for row in rows
        ],
        safe=False,
    )


def require_module(repo: str, caller: Caller) -> Module:
    found = repository(repo, caller)
    if not isinstance(found, Module):
        raise HubProtocolError(400, f"{found} is a base model of the library; likes are for modules.")
    return found
