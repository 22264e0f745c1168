"""Reading through the protocol: models, lists, trees, commits, refs."""

from typing import Any
from urllib.parse import urlencode

from django.db.models import prefetch_related_objects
from django.http import HttpRequest, JsonResponse, QueryDict
from django.http.response import HttpResponseBase

from hub_site.accounts.models import ApiToken
from hub_site.accounts.selectors import namespace_by_name, namespaces_readable_by
from hub_site.audit.kept_pages import kept_for_strangers
from modules_registry import selectors
from modules_registry.catalog import (
    HubSearch,
    count_of_owner,
    languages_in_use,
    licenses_in_use,
    repositories_listed,
    repositories_page,
    tags_in_use,
    tasks_in_use,
)
from modules_registry.core.languages import LANGUAGES
from modules_registry.hub_api import describe
from modules_registry.hub_api.errors import HubProtocolError, entry_not_found
from modules_registry.hub_api.protocol import (
    SAFE,
    Caller,
    at_revision,
    empty,
    hub_view,
    json_of,
    repository,
    require_writable_module,
)
from modules_registry.hub_api.told import Told, told_of_listed
from modules_registry.models import BaseModel, Module, Version

PATHS_MAX = 1000
LISTED_MAX = 100
LISTED_IN_FULL_MAX = 50  # each with its card and files
COMMITS_MAX = 50
OFFSET_MAX = 1_000_000
FILTERS_MAX = 16  # each is a condition of its own in one query
EXPAND_MAX = 64  # more than there are properties


@hub_view(*SAFE)
def whoami(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Who a token belongs to, and what it may do: what `hf auth login` asks first."""
    user = caller.require_user()
    orgs = [
        {"type": "org", "name": namespace.name, "fullname": namespace.name, "isEnterprise": False}
        for namespace in namespaces_readable_by(user).filter(kind="organisation")
    ]
    answer: dict[str, Any] = {
        "type": "user",
        "id": str(user.pk),
        "name": user.username,
        "fullname": user.get_full_name() or user.username,
        "email": user.email or None,
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "avatarUrl": "",
        "orgs": orgs,
    }
    if caller.token is not None:
        answer["auth"] = {"type": "access_token", "accessToken": token_json(caller.token)}
    return JsonResponse(answer)


def token_json(token: ApiToken) -> dict[str, str]:
    return {
        "displayName": token.label,
        "role": token.scope,
        "createdAt": describe.date_of(token.created_at),
    }


@hub_view(*SAFE)
def overview(request: HttpRequest, caller: Caller, name: str) -> HttpResponseBase:
    """What is public of an owner."""
    namespace = namespace_by_name(name) if selectors.is_storable(name) else None
    if namespace is None:
        raise HubProtocolError(404, f"Nobody here is called {name[:96]}.")
    count = count_of_owner(namespace, caller.viewer_of(namespace.name))
    kind = "org" if namespace.kind == namespace.Kind.ORGANISATION else "user"
    facts = {"user": namespace.name, "name": namespace.name, "fullname": namespace.name, "type": kind}
    counts = {"numModels": count, "numDatasets": 0, "numSpaces": 0, "numDiscussions": 0, "numPapers": 0}
    return JsonResponse(
        facts
        | counts
        | {"avatarUrl": "", "isPro": False, "createdAt": describe.date_of(namespace.created_at)}
    )


@hub_view(*SAFE)
def storage_list(request: HttpRequest, caller: Caller, name: str = "") -> HttpResponseBase:
    """What an owner has here and how large it is, drafts among it: `hf repos ls`. For its people only."""
    user = caller.require_user()
    namespace = namespaces_readable_by(user).filter(name__iexact=name or user.namespace.name).first()
    if namespace is None:
        raise HubProtocolError(404, f"There is no organization {name[:96]} here that you belong to.")
    caller.require_covered(namespace.name)
    modules = repositories_listed(HubSearch(author=namespace.name), user)
    sizes = selectors.sizes_of(namespace)
    return JsonResponse([describe.storage_json(each, sizes) for each in modules], safe=False)


@hub_view(*SAFE)
@kept_for_strangers
def model_info(
    request: HttpRequest, caller: Caller, repo: str, revision: str = selectors.MAIN
) -> HttpResponseBase:
    found = repository(repo, caller)
    source = at_revision(found, revision)
    prefetch_related_objects([source], "files")
    if isinstance(found, Module):
        prefetch_related_objects([found], "tags")
    blobs = is_true(request.GET.get("blobs"))
    expand = values_of(request.GET, "expand", most=EXPAND_MAX)
    return JsonResponse(describe.only(json_of_repository(found, source, blobs=blobs), expand))


def json_of_repository(
    found: Module | BaseModel, source: Version | BaseModel, *, blobs: bool
) -> dict[str, Any]:
    if isinstance(found, Module) and isinstance(source, Version):
        return describe.module_json(found, source, blobs=blobs)
    return describe.base_json(found, blobs=blobs)  # type: ignore[arg-type]


@hub_view(*SAFE)
@kept_for_strangers
def model_list(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Modules that match, a page at a time; the next page's address is in the Link header."""
    query = request.GET
    expand = values_of(query, "expand", most=EXPAND_MAX)
    is_full = any(is_true(query.get(name)) for name in ("full", "cardData", "config")) or bool(expand)
    page_size = LISTED_IN_FULL_MAX if is_full else LISTED_MAX
    wanted = min(number_in(query.get("limit"), page_size), page_size)
    asked = asked_of(request)
    viewer = caller.viewer_of(asked.author)
    page = repositories_page(asked, viewer, cursor=query.get("cursor", ""), size=wanted)
    told = told_of_listed(page.rows)
    listed = [
        listed_module_json(module, expand, is_full=is_full, query=query, told=told[module.pk])
        for module in page.rows
    ]
    response = JsonResponse(listed, safe=False)
    if page.next:
        following = query.copy()
        following["cursor"] = page.next
        response["Link"] = f'<{request.build_absolute_uri(request.path)}?{following.urlencode()}>; rel="next"'
    return response


def asked_of(request: HttpRequest) -> HubSearch:
    query = request.GET
    filters = values_of(query, "filter", most=FILTERS_MAX)
    never = any(query.get(name) for name in ("inference", "inference_provider", "apps", "num_parameters"))
    return HubSearch(
        q=query.get("search", "")[:200],
        author=query.get("author", ""),
        filters=tuple(dict.fromkeys(filters)),
        pipeline=query.get("pipeline_tag", "").strip(),
        sort=query.get("sort", ""),
        is_none=never or is_true(query.get("gated")),
    )


def values_of(query: QueryDict, name: str, *, most: int) -> list[str]:
    """The values of a list in an address: repeated, with [] or without, or with commas between them."""
    texts = [*query.getlist(name), *query.getlist(f"{name}[]")]
    values = [value.strip() for text in texts for value in text.split(",") if value.strip()]
    if len(values) > most:
        raise HubProtocolError(400, f"{name} may have at most {most} values.")
    return values


def listed_module_json(
    module: Module, expand: list[str], *, is_full: bool, query: Any, told: Told
) -> dict[str, Any]:
    version = module.current or module.draft
    assert version is not None, "a listed module has one or the other"
    answer = describe.module_json(module, version, with_card=is_full, told=told)
    if expand:
        return describe.only(answer, expand)
    wanted = set(answer) - {"cardData", "config", "usedStorage"}
    wanted |= {
        name for name in ("cardData", "config") if is_true(query.get(name)) or is_true(query.get("full"))
    }
    if not is_true(query.get("full")):
        wanted -= {"siblings"}
    return {key: value for key, value in answer.items() if key in wanted}


def is_true(text: str | None) -> bool:
    """New clients write “true”, old ones “True”."""
    return (text or "").lower() in ("true", "1")


def number_in(text: str | None, default: int) -> int:
    return min(int(text), OFFSET_MAX) if text and text.isdecimal() and len(text) < 10 else default


@hub_view(*SAFE)
def tags_by_type(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """What one can filter by."""
    library = [("peft", "PEFT"), ("safetensors", "Safetensors"), ("transformers", "Transformers")]
    return JsonResponse(
        {
            "library": [{"id": name, "label": label, "type": "library"} for name, label in library],
            "pipeline_tag": [{"id": name, "label": name, "type": "pipeline_tag"} for name in tasks_in_use()],
            "language": [
                {"id": code, "label": LANGUAGES.get(code, code), "type": "language"}
                for code in languages_in_use()
            ],
            "license": [
                {"id": f"license:{name}", "label": name, "type": "license"} for name in licenses_in_use()
            ],
            "other": [{"id": name, "label": name, "type": "other"} for name, _ in tags_in_use()],
        }
    )


@hub_view(*SAFE)
@kept_for_strangers
def tree(request: HttpRequest, caller: Caller, repo: str, address: str) -> HttpResponseBase:
    """The files at a revision. There are no folders here."""
    found = repository(repo, caller)
    revision, path = selectors.revision_and_path(found, address)
    source = at_revision(found, revision)
    if path.strip("/"):
        raise entry_not_found(str(found), path, source.commit_id)
    expand = is_true(request.GET.get("expand"))
    files = [describe.tree_item(file, source, expand=expand) for file in source.files.all()]
    response = JsonResponse(files, safe=False)
    response["X-Repo-Commit"] = source.commit_id
    return response


@hub_view("POST")
def paths_info(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """Those of the asked files that exist; as a form (Python's client) or as JSON (JavaScript's)."""
    source = at_revision(repository(repo, caller), revision)
    if request.content_type == "application/json":
        asked = json_of(request)
        paths, expand = asked.get("paths", []), bool(asked.get("expand"))
    else:
        paths, expand = request.POST.getlist("paths"), is_true(request.POST.get("expand"))
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or len(paths) > PATHS_MAX:
        raise HubProtocolError(400, f"paths must be a list of at most {PATHS_MAX} names.")
    wanted = {path for path in paths if isinstance(path, str)}
    files = [file for file in source.files.all() if file.path in wanted]
    return JsonResponse([describe.tree_item(file, source, expand=expand) for file in files], safe=False)


@hub_view(*SAFE)
def commits(request: HttpRequest, caller: Caller, repo: str, revision: str) -> HttpResponseBase:
    """What led to a revision, newest first."""
    source = at_revision(repository(repo, caller), revision)
    history = selectors.history_of(source) if isinstance(source, Version) else [source]
    start = number_in(request.GET.get("p"), 0) * COMMITS_MAX
    shown = history[start : start + COMMITS_MAX]
    response = JsonResponse([describe.commit_json(each) for each in shown], safe=False)
    if start + COMMITS_MAX < len(history):
        query = urlencode({"p": start // COMMITS_MAX + 1})
        response["Link"] = f'<{request.build_absolute_uri(request.path)}?{query}>; rel="next"'
    return response


@hub_view(*SAFE)
def refs(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    found = repository(repo, caller)
    return JsonResponse(describe.refs_json(found, at_revision(found, selectors.MAIN)))


@hub_view(*SAFE)
def auth_check(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    """May the caller read it? Whoever may not is told that there is none."""
    repository(repo, caller)
    return empty()


@hub_view(*SAFE)
def auth_check_write(request: HttpRequest, caller: Caller, repo: str) -> HttpResponseBase:
    require_writable_module(repo, caller)
    return empty()
