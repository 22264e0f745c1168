"""What the watching page asks for while a composition runs, and what its owner can wish there."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from composer.access import OwnerRequest, for_owners, get_own_composition
from composer.services import composition_notify
from composer.watch import selectors
from composer.watch.event_text import event_json
from composer.watch.progress import finished_view, progress_view
from composer.watch.serializers import parse_after
from composer.watch.stream import event_stream
from hub_site.accounts.requests import SignedInRequest
from hub_site.common.errors import Refusal


@for_owners
@never_cache
@require_safe
def composition_progress(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    """The part of the page that says where it stands; of a finished one, how it ended."""
    composition = get_own_composition(request.owner, composition_id)
    if composition.is_finished:
        answer = render(request, "composer/_finished.html", finished_view(composition) | {"is_alone": True})
        answer["HX-Reswap"] = "outerHTML"  # what comes in its place asks no more
        return answer
    context = progress_view(composition) | {"is_alone": True}
    # Swapped only when they are others: a button that is replaced loses the focus, or a click.
    context["are_actions_new"] = request.GET.get("actions") != context["actions"]
    return render(request, "composer/_progress.html", context)


@for_owners
@never_cache
@require_safe
def composition_events(request: OwnerRequest, composition_id: UUID) -> HttpResponse:
    """The events after one that the page has: how it follows where no stream can be held open."""
    composition = get_own_composition(request.owner, composition_id)
    try:
        news = selectors.events_since(composition, parse_after(request.GET))
    except Refusal as refusal:
        return refusal_response(refusal)
    return JsonResponse(news | {"events": [event_json(event) for event in news["events"]]})


@for_owners
@require_safe
def composition_stream(request: OwnerRequest, composition_id: UUID) -> HttpResponseBase:
    """The events as they happen, until it is finished."""
    composition = get_own_composition(request.owner, composition_id)
    try:
        return event_stream(request, composition, parse_after(request.GET, request.headers))
    except Refusal as refusal:
        return refusal_response(refusal)


def refusal_response(refusal: Refusal) -> HttpResponse:
    return JsonResponse({"error": refusal.message}, status=refusal.status)


@login_required
@require_POST
def composition_mail_page(request: SignedInRequest, composition_id: UUID) -> HttpResponse:
    """Ask for the notification mail, or withdraw the wish."""
    composition = get_own_composition(request.user, composition_id)
    try:
        composition = composition_notify(
            owner=request.user, composition_id=composition_id, wanted="mail_when_done" in request.POST
        )
    except Refusal as refusal:
        messages.error(request, refusal.message)
    if request.htmx:
        return render(request, "composer/_mail_choice.html", {"composition": composition, "is_saved": True})
    return redirect(composition)
