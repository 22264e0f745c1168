"""A module's weights, its neighbors, its changes and files: pages, and parts of the module's page."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe
from django_htmx.middleware import HtmxDetails

from modules_registry import selectors
from modules_registry.access import module_or_404
from modules_registry.explore.changes import changes_between
from modules_registry.explore.selectors import chosen_version, pair_asked, version_before
from modules_registry.explore.viewer import show_file
from modules_registry.fitting import fitting_of
from modules_registry.likeness import copies_of, neighbours
from modules_registry.models import BaseModel, Module, Version
from modules_registry.pictures import strength_picture
from modules_registry.selectors import strengths_of

WORDS_MAX = 100  # characters of a search in a file


class PageRequest(HttpRequest):
    htmx: HtmxDetails


@require_safe
def weights_page(request: PageRequest, namespace: str, name: str) -> HttpResponse:
    """Where the weights of a version are strong."""
    module, version = version_asked(request, namespace, name, "revision")
    strengths = strengths_of(version)
    context = {
        "is_measured": version.sketch_id is not None,
        "norm": version.sketch.norm if version.sketch else 0.0,
        "picture": strength_picture(strengths),
        "layers_count": len(strengths),
    }
    return part_or_page(request, "weights", module, version, "Weight strength by layer", context)


@require_safe
def similar_page(request: PageRequest, namespace: str, name: str) -> HttpResponse:
    """The modules that are like one: the same weights, near-copies, near by weights, near by text."""
    module, version = version_asked(request, namespace, name, "revision")
    context = {
        "is_measured": version.sketch_id is not None,
        "copies": copies_of(version, request.user),
        "neighbours": neighbours(version, request.user),
    }
    return part_or_page(request, "similar", module, version, "Similar modules", context)


@require_safe
def compatible_page(request: PageRequest, namespace: str, name: str) -> HttpResponse:
    """What can be composed with a module, by which rule, and why not the others."""
    module, version = version_asked(request, namespace, name, "revision")
    asked = request.GET.get("module", "").replace("\x00", "").strip()
    context = {
        "fitting": fitting_of(version, request.user),
        "asked": asked,
        "pair": pair_asked(version, asked, request.user),
    }
    return part_or_page(request, "compatible", module, version, "Compatible modules", context)


@require_safe
def changes_page(request: PageRequest, namespace: str, name: str) -> HttpResponse:
    """What changed between two versions; without a choice, from the one before the current one to it."""
    module = module_or_404(namespace, name, request.user)
    versions = list(selectors.versions_of(module))
    after = chosen_version(module, request.GET.get("to", ""), versions[0])
    before = chosen_version(module, request.GET.get("from", ""), version_before(versions, after))
    context = {
        "versions": versions,
        "before": before,
        "after": after,
        "changes": changes_between(before, after) if before.pk != after.pk else None,
    }
    return part_or_page(request, "changes", module, after, "What changed", context)


@require_safe
def file_page(request: HttpRequest, namespace: str, name: str, address: str) -> HttpResponse:
    """A file of a module or of a base model at a revision; the revision's page where there is none.

    Clients print such addresses also of files that were left out.
    """
    module = selectors.module_find(namespace, name, request.user)
    found = module or selectors.base_find(namespace, name)
    if found is None:
        raise Http404
    revision, path = selectors.revision_and_path(found, address)
    source = selectors.revision_find(found, revision)
    if source is None:
        raise Http404
    file = next((file for file in source.files.all() if file.path == path), None)
    if file is None:
        return redirect("modules_registry:version", *full_name(found).split("/", 1), revision)
    words = request.GET.get("q", "").replace("\x00", "").strip()[:WORDS_MAX]
    context = {
        "words": words,
        "name": full_name(found),
        "back": found.get_absolute_url(),
        "revision": revision,
        "file": file,
        "shown": show_file(file, words),
        "download": f"/{full_name(found)}/resolve/{source.commit_id}/{file.path}",
        "git_blob_id": selectors.git_blob_id(file),
    }
    return render(request, "modules_registry/explore/file.html", context)


def full_name(found: Module | BaseModel) -> str:
    return found.full_name if isinstance(found, Module) else found.name


def version_asked(request: HttpRequest, namespace: str, name: str, parameter: str) -> tuple[Module, Version]:
    """The module, and the complete version of it that the address asks for: without one the current."""
    module = module_or_404(namespace, name, request.user)
    assert module.current is not None  # it is published
    return module, chosen_version(module, request.GET.get(parameter, ""), module.current)


def part_or_page(
    request: PageRequest, part: str, module: Module, version: Version, title: str, context: dict[str, Any]
) -> HttpResponse:
    """What htmx puts into the module's page; for everybody else a page of its own."""
    template = f"modules_registry/explore/_{part}.html"
    whole = {"module": module, "version": version, "title": title, "part": template, **context}
    is_part = bool(request.htmx) and not request.htmx.history_restore_request
    return render(request, template if is_part else "modules_registry/explore/page.html", whole)
