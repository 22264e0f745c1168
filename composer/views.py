from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from composer import selectors
from composer.access import OwnerRequest, for_owners, get_own_composition
from composer.guests import SIGN_UP
from composer.matching.leakage import leakage_text, leaking_modules
from composer.models import Composition
from composer.publish.forms import publish_panel
from composer.report.exports import FILES
from composer.report.page import command, outcome, report_view
from composer.report.snippets import own_snippets
from composer.request.selectors import drafts_of
from composer.services import composition_cancel, composition_delete, composition_stop
from composer.share.services import share_of
from composer.watch.progress import watch_view
from hub_site.accounts.models import User
from hub_site.common.compression import never_compress
from hub_site.common.errors import Refusal

PER_PAGE = 20
PUBLISHED_BY_ACCOUNTS = {"publish_refusal": f"You need an account to publish. {SIGN_UP}"}
STATE_LABELS = {
    "": "All",
    "going": "Waiting or running",
    "useful": "Use it",
    "other": "Other verdicts",
    "ended": "Failed or cancelled",
}


@for_owners
@require_safe
def composition_list(request: OwnerRequest) -> HttpResponse:
    state, words = request.GET.get("state", ""), request.GET.get("q", "")[:80]
    found = selectors.compositions_listed(request.owner, state, words)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [
            (row, outcome(row.decision, row.quality, row.comparison) if row.is_done else None) for row in page
        ],
        "drafts": drafts_of(request.owner),
        "states": states_to_choose(request.owner, state),
        "state": state,
        "q": words,
    }
    return render(request, "composer/composition_list.html", context)


def states_to_choose(owner: User, chosen: str) -> list[dict[str, Any]]:
    """The list's filters that have something in them, each with how much."""
    counts = selectors.states_counted(owner)
    counts[""] = counts.pop("all")
    return [
        {"value": value, "label": label, "count": counts[value], "is_chosen": value == chosen}
        for value, label in STATE_LABELS.items()
        if counts[value] or value == chosen
    ]


@for_owners
@never_cache
@require_safe
def composition_page(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    """The page to watch it on while it runs; its report when it is done; why, when it is not."""
    composition = get_own_composition(request.owner, composition_id)
    context: dict[str, Any] = {"composition": composition}
    if composition.is_done:
        context |= owner_report(request, composition)
        response = render(request, "composer/composition_report.html", context)
        if context["share"]:  # its address is a secret
            never_compress(response)
        return response
    if composition.is_finished:
        return render(request, "composer/composition_ended.html", context)
    return render(request, "composer/composition_watch.html", watch_view(composition))


def owner_report(request: HttpRequest, composition: Composition) -> dict[str, Any]:
    """The whole report, with what only its owner can do with it."""
    report, site = composition.report or {}, request.build_absolute_uri("/").rstrip("/")
    files = list(selectors.result_files(composition))
    link = share_of(composition)
    leaking = leaking_modules(composition)
    return {
        **report_view(composition, report, show=request.GET.get("show", ""), page=request.GET.get("page")),
        **(PUBLISHED_BY_ACCOUNTS if composition.owner.is_guest else publish_panel(composition)),
        "address": composition.get_absolute_url(),
        "site": site,
        "command": command(composition, site),
        "private_modules": selectors.private_modules(composition),
        "snippets": own_snippets(composition, site),
        "report_files": FILES,
        "files": files,
        "size_bytes": sum(file.size_bytes for file in files),
        "leakage_text": leakage_text(leaking) if leaking else "",
        "share": link,
        "share_address": f"{site}{link.get_absolute_url()}" if link else "",
    }


@for_owners
@require_POST
def composition_cancel_page(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    get_own_composition(request.owner, composition_id)
    return redirect(composition_cancel(owner=request.owner, composition_id=composition_id))


@for_owners
@require_POST
def composition_stop_page(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    composition = get_own_composition(request.owner, composition_id)
    try:
        composition_stop(owner=request.owner, composition_id=composition_id)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect(composition)


@for_owners
@require_POST
def composition_delete_page(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    composition = get_own_composition(request.owner, composition_id)
    try:
        composition_delete(owner=request.owner, composition_id=composition_id)
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect(composition)
    messages.success(request, f"“{composition.name}” is deleted, with its examples and its adapter.")
    return redirect("composer:list")
