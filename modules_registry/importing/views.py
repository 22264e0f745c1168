"""The pages of imports: ask for one, watch it, see what came of it."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hub_site.accounts.requests import SignedInRequest
from hub_site.common.errors import Refusal
from modules_registry.forms import add_refusal
from modules_registry.importing import selectors
from modules_registry.importing.forms import ImportForm
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.selectors import State
from modules_registry.importing.services import import_again, import_cancel, import_request
from modules_registry.selectors import base_models

PER_PAGE = 20
ITEMS_PER_PAGE = 50
STATES = {
    State.WAITING: "Waiting",
    State.IMPORTED: "Imported",
    State.UNCHANGED: "Here already",
    State.REFUSED: "Refused",
}
NO_WORKER = (
    "Queued for {seconds} s, and no worker has picked it up. Your request is safe: it starts by itself when "
    "the transfer worker is back. If this lasts, tell the site's operator."
)
SILENT_WORKER = (
    "Its worker has not answered for {seconds} s. If it is gone, another one takes over within a minute."
)


@login_required
@never_cache
@require_safe
def import_list(request: SignedInRequest) -> HttpResponse:
    page = Paginator(selectors.imports_of(request.user), PER_PAGE).get_page(request.GET.get("page"))
    rows = [(job, selectors.counts_of(job)) for job in page]
    return render(request, "modules_registry/importing/import_list.html", {"page": page, "rows": rows})


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def import_new(request: SignedInRequest) -> HttpResponse:
    user = request.user
    initial = {"sources": request.GET.get("source", "")}
    form = ImportForm(request.POST or None, request.FILES or None, user=user, initial=initial)
    if form.is_valid():
        try:
            return redirect(import_request(owner=user, **form.cleaned_data))
        except Refusal as refusal:
            add_refusal(form, refusal)
    context = {"form": form, "bases": base_models(), "has_imports": selectors.imports_of(user).exists()}
    return render(
        request, "modules_registry/importing/import_new.html", context, status=422 if form.errors else 200
    )


@login_required
@never_cache
@require_safe
def import_page(request: SignedInRequest, import_id: UUID) -> HttpResponse:
    context = state_of(request, get_own_import(request, import_id))
    return render(request, "modules_registry/importing/import.html", context)


@login_required
@never_cache
@require_safe
def import_progress(request: SignedInRequest, import_id: UUID) -> HttpResponse:
    """The part of the page that moves; a finished import asks for the whole page."""
    job = get_own_import(request, import_id)
    if job.is_finished:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "modules_registry/importing/_progress.html", state_of(request, job))


@login_required
@require_POST
def import_cancel_page(request: SignedInRequest, import_id: UUID) -> HttpResponse:
    get_own_import(request, import_id)
    return redirect(import_cancel(owner=request.user, import_id=import_id))


@login_required
@require_POST
def import_again_page(request: SignedInRequest, import_id: UUID) -> HttpResponse:
    job = get_own_import(request, import_id)
    try:
        return redirect(import_again(owner=request.user, import_id=import_id))
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect(job)


def state_of(request: HttpRequest, job: ModuleImport) -> dict[str, Any]:
    """What the page says of an import, of all its repositories or of those in one state."""
    asked = request.GET.get("state", "")
    state = asked if asked in STATES else ""
    counts = selectors.counts_of(job)
    quiet = 0 if job.is_finished else selectors.quiet_seconds(job)
    words = SILENT_WORKER if job.status == "running" else NO_WORKER
    return {
        "job": job,
        "counts": counts,
        "can_try_again": bool(counts.left) or not job.is_listed,
        "state": state,
        "states": [(value, label, getattr(counts, value)) for value, label in STATES.items()],
        "page": Paginator(selectors.items_of(job, state), ITEMS_PER_PAGE).get_page(request.GET.get("page")),
        "next_item": None if job.is_finished else selectors.item_next(job),
        "quiet_words": words.format(seconds=quiet) if quiet else "",
    }


def get_own_import(request: SignedInRequest, import_id: UUID) -> ModuleImport:
    job = selectors.import_find(request.user, import_id)
    if job is None:
        raise Http404
    return job
