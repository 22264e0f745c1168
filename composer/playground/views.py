"""The box on a module's page and on a report, and its answers: fragments, or pages of their own."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import reswap, retarget

from composer.access import owner_of
from composer.playground import selectors
from composer.playground.forms import TryForm
from composer.playground.models import TryOut
from composer.playground.requester import requester_of, requester_with_session
from composer.playground.selectors import Target
from composer.playground.services import (
    INPUT_CHARACTERS_MAX,
    MAX_NEW_TOKENS,
    may_ask,
    tryout_ask,
    tryout_wait,
    tryout_watch,
)
from hub_site.common.errors import Refusal
from hub_site.common.requests import PageRequest
from hub_site.jobs.models import Status
from modules_registry.selectors import MAIN

WAIT_S = 1.0  # for an answer that comes quickly: then there is nothing to poll


@never_cache
@require_http_methods(["GET", "POST"])
def module_try(request: PageRequest, namespace: str, name: str, revision: str = MAIN) -> HttpResponse:
    return target_try(request, selectors.target_module(namespace, name, request.user, revision))


@never_cache
@require_http_methods(["GET", "POST"])
def composition_try(request: PageRequest, composition_id: UUID) -> HttpResponse:
    return target_try(request, selectors.target_composition(owner_of(request), composition_id))


@never_cache
@require_safe
def tryout_page(request: PageRequest, tryout_id: UUID) -> HttpResponse:
    """One question: its answer alone for htmx, else on a page of its own."""
    tryout = selectors.tryout_of(requester_of(request), tryout_id)
    if tryout is None:
        raise Http404
    tryout_watch(tryout)
    if request.htmx:
        if request.GET.get("known") == status_key(tryout):
            return HttpResponse(status=204)  # nothing new: the page keeps what it says, and says it once
        return render(request, "playground/_answer.html", answer_context(tryout))
    target = selectors.target_of(tryout)
    shown = {"input": tryout.input, "template": tryout.template, "max_new_tokens": tryout.max_new_tokens}
    context = panel_context(request, target, TryForm(initial=shown)) | answer_context(tryout)
    return render(request, "playground/tryout.html", context)


def target_try(request: PageRequest, target: Target | None) -> HttpResponse:
    """GET: the box. POST: ask, and show the answer, how the question stands, or why it cannot be asked."""
    if target is None:
        raise Http404
    if request.method == "POST":
        return answer_response(request, target)
    beginning = {
        "input": next(iter(target.examples), ""),
        "template": target.template,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    template = "playground/_panel.html" if request.htmx else "playground/tryout.html"
    return render(request, template, panel_context(request, target, TryForm(initial=beginning)))


def answer_response(request: PageRequest, target: Target) -> HttpResponse:
    form = TryForm(request.POST)
    try:
        tryout = ask(request, target, form)
    except Refusal as refusal:
        return refusal_response(request, target, form, refusal)
    tryout_wait(tryout, seconds=WAIT_S)
    if not request.htmx:
        return redirect(tryout)
    context = answer_context(tryout) | {"typed": form.cleaned_data["example"]}
    return render(request, "playground/_answer.html", context)


def ask(request: PageRequest, target: Target, form: TryForm) -> TryOut:
    if not form.is_valid():
        said = [str(message) for messages in form.errors.values() for message in messages]
        raise Refusal("invalid", " ".join(said), status=422)
    with requester_with_session(request) as requester:
        return tryout_ask(requester=requester, target=target, **form.service_arguments())


def refusal_response(request: PageRequest, target: Target, form: TryForm, refusal: Refusal) -> HttpResponse:
    """Where it was asked from. htmx shows no answer with an error's status, so there it comes with 200.

    It has a place of its own: the question before, which may still wait for its answer, keeps its place.
    """
    context = {"refusal": refusal.message, "is_for_later": refusal.retry_after_s is not None}
    if request.htmx:
        response = render(request, "playground/_refusal.html", context)
        return reswap(retarget(response, "#try-refusal"), "innerHTML")
    for name, messages in refusal.fields.items():
        for message in messages:
            form.add_error(name, message)
    context |= panel_context(request, target, form)
    response = render(request, "playground/tryout.html", context, status=refusal.status)
    for name, value in refusal.headers.items():
        response[name] = value
    return response


def panel_context(request: PageRequest, target: Target, form: TryForm) -> dict[str, Any]:
    return {
        "form": form,
        "target": target,
        "examples": list(target.examples),
        "may_ask": may_ask(requester_of(request)),
        "input_characters_max": INPUT_CHARACTERS_MAX,
    }


def answer_context(tryout: TryOut) -> dict[str, Any]:
    target = selectors.target_of(tryout)
    return {
        "tryout": tryout,
        "name": target.name,
        "expected": target.examples.get(tryout.input, ""),
        "ahead": selectors.ahead_of(tryout),
        "standing": status_key(tryout),
        "is_slow": selectors.is_slow(tryout),
        "answer_s": settings.HUB_TRY_ANSWER_S,
        "missing_worker": selectors.missing_worker_text(tryout),
    }


def status_key(tryout: TryOut) -> str:
    """What the page says of it, short: as long as it is the same there is nothing new."""
    if tryout.status != Status.QUEUED:
        return f"{tryout.status}{'-slow' if selectors.is_slow(tryout) else ''}"
    away = "-away" if selectors.is_worker_missing(tryout) else ""
    return f"{tryout.status}-{selectors.ahead_of(tryout)}{away}"
