"""The registry's pages: a request comes in, a service or a selector answers, a template says it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hub_site.accounts.models import Namespace
from hub_site.accounts.requests import SignedInRequest
from hub_site.accounts.selectors import namespace_by_name, namespaces_readable_by
from hub_site.audit.kept_pages import kept_for_strangers
from hub_site.audit.selectors import history_lines, history_of
from hub_site.common.errors import TOO_MANY_REQUESTS, Refusal
from hub_site.common.share_pictures import SharePicture, picture_answer
from hub_site.common.site_faults import STATUSES
from modules_registry import selectors
from modules_registry.access import module_or_404, owned_module_or_404, writable_module_or_404
from modules_registry.activity import activity_of, owner_numbers
from modules_registry.card_facts import sample_in
from modules_registry.card_preview import card_preview
from modules_registry.catalog import (
    SORTS,
    Facet,
    FoundModules,
    ModuleFilters,
    find_modules,
    modules_of_base,
    nearest_modules,
    ways_on,
)
from modules_registry.comparison import COMPARED_MAX, COMPARED_MIN, compare_modules
from modules_registry.core.adapter_config import CONFIG_BYTES_MAX
from modules_registry.core.adapter_file import BEGINNING_BYTES, HEADER_BYTES_MAX
from modules_registry.core.advice import WayIn
from modules_registry.core.cards import CARD_BYTES_MAX
from modules_registry.core.errors import CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE
from modules_registry.core.licenses.names import license_label
from modules_registry.core.weight_formats import SAMPLE_BYTES, SAMPLES_MAX
from modules_registry.evidence import evidence_of, measured_of
from modules_registry.files.conversion import as_safetensors
from modules_registry.forms import (
    PATHS_MAX,
    DeleteForm,
    EditForm,
    FilesForm,
    ModuleForm,
    MoveForm,
    UploadCheckForm,
    VersionForm,
    add_refusal,
    filters_from,
    filters_left_out,
    initial_description,
)
from modules_registry.likeness import originals_of
from modules_registry.lineage import ComposedFrom, composed_from, parents_counted, used_in
from modules_registry.mirror.selectors import remote_copy
from modules_registry.models import Module, Version
from modules_registry.overviews import foreign_base_or_404, layer_groups, tag_overview_or_404
from modules_registry.page_uploads import check_upload, left_out_of
from modules_registry.pictures import children_picture, parents_picture
from modules_registry.popularity import downloads_by_week, is_liked, module_like, module_unlike
from modules_registry.presence import presence_of
from modules_registry.rendering import shown_card
from modules_registry.repositories import note_left_out, repository_move
from modules_registry.services import module_delete, module_edit, module_publish, version_add
from modules_registry.snippets import snippets_for_base, snippets_for_module, upload_snippets
from modules_registry.suggestions import suggestions
from modules_registry.tags import normalize_tag

PAGE_SIZE = 24
BASE_MODULES_COUNT = 6
SHOWN_COUNT = 12  # on the page of a tag
ACTIVITY_SHOWN = 12
HISTORY_PAGE_SIZE = 50


@require_safe
@kept_for_strangers
def module_list(request: HttpRequest) -> HttpResponse:
    """The library: search, narrow, sort."""
    asked, problem = filters_from(request.GET), ""
    try:
        found = found_at_cursor(request, asked)
    except Refusal as refusal:  # of the module that others are to fit; a link may be old
        problem = f"{refusal.message} The filter “Compatible with” was left out."
        found = found_at_cursor(request, replace(asked, fits="", fits_by=""))
    filters, ways = found.filters, ways_on(found)
    context = {
        "found": found,
        "filters": filters,
        "facet_lists": facet_lists(tuple(found.facets)),
        "sorts": [(key, label) for key, label in SORTS.items() if filters.q or key != "best"],
        "problem": problem,
        "left_out": filters_left_out(request.GET),
        "ways_on": ways,
        "nearest": [] if found.count else nearest_modules(found, ways, request.user),
        "with_any_word": replace(filters, match="any") if found.words_needed > 1 else None,
    }
    return render(request, "modules_registry/module_list.html", context)


@lru_cache(maxsize=128)
def facet_lists(facets: tuple[Facet, ...]) -> str:
    """The lists of facets, which stand twice on the page, and alike on every page of a search."""
    return render_to_string("modules_registry/_facets.html", {"facets": facets})


def found_at_cursor(request: HttpRequest, filters: ModuleFilters, *, has_facets: bool = True) -> FoundModules:
    """The page of a search that the address asks for; the first one if its cursor makes no sense.

    Raises:
        Refusal: another module is to fit, and nothing can.
    """
    search = partial(find_modules, filters, request.user, size=PAGE_SIZE, has_facets=has_facets)
    try:
        return search(cursor=request.GET.get("cursor", ""))
    except Refusal:
        return search()


@require_safe
@kept_for_strangers
def module_suggestions(request: HttpRequest) -> HttpResponse:
    """A fragment below a search field: what was typed so far may mean this."""
    found = suggestions(request.GET.get("q", ""))
    return render(request, "modules_registry/_suggestions.html", {"suggestions": found})


@login_required
@require_http_methods(["GET", "POST"])
def module_new(request: SignedInRequest) -> HttpResponse:
    form, status = ModuleForm(request.POST or None, request.FILES or None, user=request.user), 200
    headers: dict[str, str] = {}
    if form.is_valid():
        try:
            with uploaded_files(request, form) as files:
                module = module_publish(author=request.user, **files)
        except Refusal as refusal:
            add_refusal(form, refusal)
            status, headers = status_of_page(refusal), refusal.headers
        else:
            note_left_out(module, left_out_of(form.cleaned_data["paths"]))
            messages.success(request, f"{module.full_name} published.")
            return upload_done(request, module)
    return upload_page(request, "modules_registry/module_new.html", form, {}, status, headers)


@login_required
@require_POST
def upload_check(request: SignedInRequest) -> HttpResponse:
    """Say to the page's script what the gate says of the beginning of an upload."""
    form = UploadCheckForm(request.POST, request.FILES, user=request.user)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors})
    return JsonResponse(asdict(check_upload(**form.cleaned_data)))


@require_safe
@kept_for_strangers
def namespace_page(request: HttpRequest, namespace: str) -> HttpResponse:
    """Everything one owner has published."""
    owner = namespace_by_name(namespace)
    if owner is None:
        raise Http404
    if owner.name != namespace:
        return redirect(owner)
    context = {
        "namespace": owner,
        "found": found_at_cursor(request, ModuleFilters(author=owner.name), has_facets=False),
        "drafts": selectors.drafts_of(owner, request.user),
        "held": selectors.held_of(owner, request.user),
        "is_mine": selectors.namespace_is_writable_by(owner, request.user),
        "numbers": owner_numbers(owner, request.user),
        "deeds": activity_of(owner, request.user, count=ACTIVITY_SHOWN),
        "is_member": is_member(owner, request.user),
    }
    return render(request, "modules_registry/namespace.html", context)


def is_member(owner: Namespace, viewer: object) -> bool:
    """Whether it is an organization that the viewer belongs to."""
    return owner.user_id is None and namespaces_readable_by(viewer).filter(pk=owner.pk).exists()


@require_safe
@kept_for_strangers
def module_page(
    request: HttpRequest, namespace: str, name: str, revision: str = selectors.MAIN
) -> HttpResponse:
    """A module now, or as one of its versions was. A base model of the library has such a page too."""
    module = selectors.module_find(namespace, name, request.user)
    if module is None:
        held = selectors.held_find(namespace, name, request.user)
        return held_page(request, held) if held else base_page(request, namespace, name, revision)
    if (module.namespace.name, module.name) != (namespace, name):
        return redirect(module)
    version = selectors.version_find(module, revision)
    if version is None:
        raise Http404
    if not version.is_complete:
        return render(request, "modules_registry/module_draft.html", draft_context(request, module, version))
    return render(request, "modules_registry/module.html", module_context(request, module, version))


@require_safe
def module_picture(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """What other programs show beside a link to the module."""
    module = module_or_404(namespace, name, request.user)
    assert module.current is not None  # it is published
    return picture_answer(share_picture(module, module.current), is_public=not module.private)


def share_picture(module: Module, version: Version) -> SharePicture:
    best = measured.best if (measured := measured_of([module]).get(module.pk)) else None
    facts = [version.base_name, f"rank {version.rank}", license_label(module.licence)]
    if best is not None and best.score_percent is not None:
        facts.append(f"{best.score_percent:.0f} % right on {best.task or 'held-out examples'}")
    return SharePicture(
        title=module.name,
        above=module.namespace.name,
        sentence=module.sentence,
        sample=(module.sample_input, module.sample_output),
        facts=" · ".join(filter(None, facts)),
    )


@require_safe
def numbered_page(request: HttpRequest, namespace: str, name: str, number: int) -> HttpResponseBase:
    """A version by its number, whatever tag has the same name."""
    return module_page(request, namespace, name, f"v{number}")


@require_safe
def revision_page(request: HttpRequest, namespace: str, name: str, address: str) -> HttpResponse:
    """Send a commit's address, or a file's at a revision, on to the page of that revision."""
    module = selectors.module_find(namespace, name, request.user)
    found = module or selectors.base_find(namespace, name)
    if found is None:
        raise Http404
    revision, _ = selectors.revision_and_path(found, address)
    if selectors.revision_find(found, revision) is None:
        raise Http404
    if module is not None:
        namespace, name = module.namespace.name, module.name
    return redirect("modules_registry:version", namespace, name, revision)


@require_safe
def raw_file(request: HttpRequest, namespace: str, name: str, address: str) -> HttpResponse:
    """Send the address of a file as it is on to where files are handed out."""
    return redirect(f"/{namespace}/{name}/resolve/{quote(address)}")


def held_page(request: HttpRequest, module: Module) -> HttpResponse:
    """What its owner's people, and staff, are told of a module that nobody gets."""
    is_mine = selectors.namespace_is_writable_by(module.namespace, request.user)
    context = {"module": module, "is_mine": is_mine}
    return render(request, "modules_registry/module_held.html", context, status=403)


@login_required
@require_POST
def module_like_change(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    """Like a module, or take the like back where the button said so."""
    module = module_or_404(namespace, name, request.user)
    change = module_unlike if request.POST.get("liked") == "no" else module_like
    change(user=request.user, module=module)
    if not request.htmx:
        return redirect(module)
    context = {"module": module, "is_liked": is_liked(module, request.user)}
    return render(request, "modules_registry/_like.html", context)


@login_required
@require_safe
def module_history(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    """What was done to a module, for whoever may change it."""
    module = owned_module_or_404(request.user, namespace, name)
    entries = history_of(module, module.full_name)
    page = Paginator(entries, HISTORY_PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"module": module, "page": page, "lines": history_lines(page.object_list)}
    return render(request, "modules_registry/module_history.html", context)


def base_page(request: HttpRequest, namespace: str, name: str, revision: str) -> HttpResponse:
    base = selectors.base_called(f"{namespace}/{name}")
    if base is None and revision == selectors.MAIN:
        return foreign_base_page(request, f"{namespace}/{name}")
    if base is None or selectors.revision_find(base, revision) is None:
        raise Http404
    if base.name.upper() != f"{namespace}/{name}".upper():
        return redirect(base)  # it is another name of it
    modules, counted = modules_of_base(base.name, request.user, BASE_MODULES_COUNT)
    context = {
        "base": base,
        "files": base.files.all(),
        "layer_groups": layer_groups(base),
        "count": counted,
        "modules": modules,
        "snippets": snippets_for_base(base, site_of(request)),
    }
    return render(request, "modules_registry/base_model.html", context)


def foreign_base_page(request: HttpRequest, name: str) -> HttpResponse:
    """What there is for a base model that this library does not have."""
    base = foreign_base_or_404(name, request.user, BASE_MODULES_COUNT)
    if base.name != name:
        return redirect(f"/{base.name}")
    context = {"base": base, "modules": base.modules, "count": base.counted}
    return render(request, "modules_registry/foreign_base.html", context)


@require_safe
def module_compare(request: HttpRequest) -> HttpResponse:
    """Two to four modules side by side; with fewer, the form that asks for them."""
    names = [name for name in request.GET.getlist("id") if name.strip()]
    context: dict[str, Any] = {"names": [*names, *[""] * COMPARED_MAX][:COMPARED_MAX]}
    if len(names) >= COMPARED_MIN:
        try:
            comparison = compare_modules(names, request.user)
            chosen = urlencode([("modules", module.full_name) for module in comparison.modules])
            ids = urlencode([("id", module.full_name) for module in comparison.modules])
            context |= {"comparison": comparison, "compose_url": f"/compositions/new/?{chosen}", "ids": ids}
        except Refusal as refusal:
            context["problem"] = refusal.message
    return render(request, "modules_registry/compare.html", context)


@require_safe
@kept_for_strangers
def tag_page(request: HttpRequest, tag: str) -> HttpResponse:
    """What carries a tag, the most popular first, and what it is used with."""
    name = normalize_tag(tag)
    overview = tag_overview_or_404(name, request.user)
    if name != tag:
        return redirect("modules_registry:tag", name)
    carrying = ModuleFilters(tags=(name,), sort="trending")
    found = find_modules(carrying, request.user, size=SHOWN_COUNT, has_facets=False)
    context = {"tag": overview, "modules": found.modules}
    return render(request, "modules_registry/tag.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def module_edit_page(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    module = writable_module_or_404(request.user, namespace, name)
    tags = [tag.name for tag in module.tags.all()]
    head = module.current or module.draft
    assert head is not None  # one of the two is there
    initial = initial_description(module, tags, selectors.card_of(head).text, head.prompt_template)
    form, status = EditForm(request.POST or None, initial=initial), 200
    headers: dict[str, str] = {}
    is_preview = "preview" in request.POST
    if not is_preview and form.is_valid():
        try:
            module_edit(editor=request.user, module=module, **form.cleaned_data)
        except Refusal as refusal:
            add_refusal(form, card_as_text(refusal))
            status, headers = status_of_page(refusal), refusal.headers
        else:
            messages.success(request, "Changes saved.")
            return redirect(module)
    preview = card_preview(form["card"].value() or "", is_stored=request.method == "GET")
    context = {"form": form, "module": module, "preview": preview}
    answer = render(request, "modules_registry/module_edit.html", context, status=status)
    for header, value in headers.items():
        answer[header] = value
    return answer


@login_required
@require_http_methods(["GET", "POST"])
def version_new(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    module = writable_module_or_404(request.user, namespace, name)
    form, status = VersionForm(request.POST or None, request.FILES or None), 200
    headers: dict[str, str] = {}
    if form.is_valid():
        try:
            with uploaded_files(request, form) as files:
                version, is_new = version_add(author=request.user, module=module, **files)
        except Refusal as refusal:
            add_refusal(form, refusal)
            status, headers = status_of_page(refusal), refusal.headers
        else:
            note_left_out(module, left_out_of(form.cleaned_data["paths"]))
            say_version(request, version, is_new)
            return upload_done(request, module)
    context = {"module": module, "next_number": selectors.next_number(module)}
    return upload_page(request, "modules_registry/version_new.html", form, context, status, headers)


@login_required
@require_http_methods(["GET", "POST"])
def module_delete_page(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    module = writable_module_or_404(request.user, namespace, name)
    form = DeleteForm(request.POST or None, module=module)
    if form.is_valid():
        try:
            module_delete(editor=request.user, module=module)
        except Refusal as refusal:
            add_refusal(form, refusal)
        else:
            messages.success(request, f"{module.full_name} is deleted.")
            return redirect(module.namespace)
    return render(request, "modules_registry/module_delete.html", {"form": form, "module": module})


@login_required
@require_http_methods(["GET", "POST"])
def module_move_page(request: SignedInRequest, namespace: str, name: str) -> HttpResponse:
    """Another name, or another owner that one may write to."""
    module = writable_module_or_404(request.user, namespace, name)
    initial = {"namespace": module.namespace.name, "name": module.name}
    form = MoveForm(request.POST or None, initial=initial, user=request.user)
    if form.is_valid():
        try:
            repository_move(editor=request.user, module=module, **form.cleaned_data)
        except Refusal as refusal:
            add_refusal(form, refusal)
        else:
            messages.success(request, f"Renamed to {module.full_name}. Its old address redirects here.")
            return redirect(module)
    return render(request, "modules_registry/module_move.html", {"form": form, "module": module})


def card_as_text(refusal: Refusal) -> Refusal:
    """On this page the card is typed, not uploaded."""
    fields = {"card" if field == "card_file" else field: said for field, said in refusal.fields.items()}
    return Refusal(
        refusal.code,
        refusal.message,
        status=refusal.status,
        fields=fields,
        retry_after_s=refusal.retry_after_s,
        headers=refusal.more_headers,
    )


def say_version(request: HttpRequest, version: Version, is_new: bool) -> None:
    if is_new:
        messages.success(request, f"Version {version.number} published.")
    else:
        messages.info(
            request, f"These are already the files of version {version.number}. Nothing was changed."
        )


@contextmanager
def uploaded_files(request: HttpRequest, form: FilesForm) -> Iterator[dict[str, Any]]:
    """What a service takes of the form, with weights that can be read."""
    with as_safetensors(form.cleaned_data["weights_file"]) as (weights, is_converted):
        if is_converted:
            messages.info(request, f"{LEGACY_FILE} was converted to {WEIGHTS_FILE}; nothing in it was run.")
        yield {name: value for name, value in form.cleaned_data.items() if name != "paths"} | {
            "weights_file": weights,
            "is_converted": is_converted,
            "way_in": WayIn.FORM,
        }


def upload_done(request: HttpRequest, module: Module) -> HttpResponse:
    """Lead to the module: the page's script is told where it is."""
    address = module.get_absolute_url()
    return JsonResponse({"address": address}) if asks_for_json(request) else redirect(address)


def status_of_page(refusal: Refusal) -> int:
    """A page that tells what was wrong with a form is no error; a fault of the site, or too much, is one."""
    return refusal.status if refusal.status in (*STATUSES, TOO_MANY_REQUESTS) else 200


def upload_page(
    request: HttpRequest,
    template: str,
    form: FilesForm,
    context: dict[str, Any],
    status: int,
    headers: Mapping[str, str],
) -> HttpResponse:
    """The form with what was wrong, or for the page's script that alone: it keeps page and files."""
    answer: HttpResponse
    if asks_for_json(request):
        answer = JsonResponse({"errors": form.errors}, status=status)
    else:
        answer = render(request, template, {"form": form} | context | upload_context(), status=status)
    for name, value in headers.items():
        answer[name] = value
    return answer


def asks_for_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


def upload_context() -> dict[str, Any]:
    """What the side of an upload form says, and how much its script reads of each file."""
    return {
        "bases": selectors.base_models(),
        "upload_max_mb": settings.HUB_UPLOAD_MAX_MB,
        "paths_max": PATHS_MAX,
        "reads": {
            "config_file": CONFIG_BYTES_MAX + 1,
            "card_file": CARD_BYTES_MAX + 1,
            "header": HEADER_BYTES_MAX,
            "beginning": BEGINNING_BYTES,
            "sample": SAMPLE_BYTES,
            "samples_max": SAMPLES_MAX,
        },
    }


def site_of(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


def draft_context(request: HttpRequest, module: Module, version: Version) -> dict[str, Any]:
    files = selectors.version_files(version)
    there = {file.path for file in files}
    return {
        "module": module,
        "version": version,
        "files": files,
        "missing": [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in there],
        "is_mine": selectors.namespace_is_writable_by(module.namespace, request.user),
        "left_out": selectors.left_out_of(module, request.user),
        "snippets": upload_snippets(module, site_of(request)),
    }


def module_context(request: HttpRequest, module: Module, version: Version) -> dict[str, Any]:
    prefetch_related_objects([version], "files")  # several sections read them
    card, there = selectors.card_of(version), presence_of(module.pk)
    parents = composed_from(version, request.user) if there.parents else ComposedFrom((), 0)
    children = used_in(module, request.user) if there.children else []
    counted = parents_counted([parent.version.pk for parent in parents.parents]) if parents.parents else {}
    return {
        "module": module,
        "version": version,
        "copy_of": originals_of([module], request.user).get(module.pk),
        "is_current": version == module.current,
        "tags": module.tags.all(),
        "versions": selectors.version_lines(module),
        "files": selectors.version_files(version),
        "card": shown_card(card.body),
        "sample": sample_in(card),
        "not_composable_because": selectors.not_composable_because(version),
        "origin": selectors.origin_of(version) if there.origin else None,
        "hub_copy": remote_copy(version),
        "is_mine": selectors.namespace_is_writable_by(module.namespace, request.user),
        "is_liked": is_liked(module, request.user),
        "weeks": downloads_by_week(module) if module.downloads else [],
        "left_out": selectors.left_out_of(module, request.user),
        "snippets": snippets_for_module(module, version, site_of(request)),
        "upload_snippets": upload_snippets(module, site_of(request)),
        "composed_from": parents,
        "parents_picture": parents_picture(parents.parents, counted),
        "evidence": evidence_of(version) if there.evidence or there.children else None,
        "used_in": children,
        "children_picture": children_picture(children),
        "compose_url": f"/compositions/new/?modules={module.full_name}",
    }
