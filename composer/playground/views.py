"""The box on a module's page and on a report, and its answers: fragments, or pages of their own."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
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
    tryouts_ask,
    tryouts_watch,
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


@never_cache
@require_http_methods(["GET", "POST"])
def compare_try(request: PageRequest) -> HttpResponse:
    """One question to several modules at once: the box, and by POST their answers beside each other."""
    targets = selectors.targets_compared(request.GET.getlist("id"), request.user)
    if targets is None:
        raise Http404
    form = TryForm(request.POST if request.method == "POST" else None, initial=beginning_of(targets))
    if request.method == "POST":
        return comparison_response(request, targets, form)
    return compared_page(request, targets, form)


def beginning_of(targets: Sequence[Target]) -> dict[str, Any]:
    return {"input": next(iter(examples_of(targets)), ""), "max_new_tokens": MAX_NEW_TOKENS}


def examples_of(targets: Sequence[Target]) -> list[str]:
    """Inputs that suit them, of each in turn; at most four."""
    in_turn = chain.from_iterable(zip_longest(*(target.examples for target in targets)))
    return list(dict.fromkeys(filter(None, in_turn)))[: selectors.EXAMPLES_MAX]


def compared_page(
    request: PageRequest, targets: Sequence[Target], form: TryForm, *, refusal: Refusal | None = None
) -> HttpResponse:
    ids = urlencode([("id", target.name) for target in targets])
    context = {
        "form": form,
        "targets": targets,
        "base": targets[0].base,
        "not_comparable": selectors.not_comparable_because(targets),
        "examples": examples_of(targets),
        "may_ask": may_ask(requester_of(request)),
        "address": f"{reverse('trying:compare')}?{ids}",
        "page": f"{reverse('modules_registry:compare')}?{ids}",
    } | (refusal_context(refusal) if refusal else {})
    template = "playground/_compared_panel.html" if request.htmx else "playground/compared.html"
    return render(request, template, context)


def comparison_response(request: PageRequest, targets: Sequence[Target], form: TryForm) -> HttpResponse:
    try:
        asked = arguments_of(form)
        with requester_with_session(request) as requester:
            tryouts = tryouts_ask(requester=requester, targets=targets, **asked)
    except Refusal as refusal:
        return comparison_refused(request, targets, form, refusal)
    for tryout in tryouts:
        tryout_wait(tryout, seconds=WAIT_S / len(tryouts))
    if not request.htmx:
        return redirect(answers_address(tryouts))
    context = answers_context(tryouts) | {"typed": form.cleaned_data["example"]}
    return render(request, "playground/_answers.html", context)


def comparison_refused(
    request: PageRequest, targets: Sequence[Target], form: TryForm, refusal: Refusal
) -> HttpResponse:
    if request.htmx:
        return refusal_fragment(request, refusal)
    response = compared_page(request, targets, form, refusal=refusal)
    response.status_code = refusal.status
    for name, value in refusal.headers.items():
        response[name] = value
    return response


@never_cache
@require_safe
def answers_page(request: PageRequest) -> HttpResponse:
    """The answers to one question beside each other: alone for htmx, else on a page of their own."""
    ids, requester = request.GET.getlist("of"), requester_of(request)
    tryouts = selectors.tryouts_named(requester, ids)
    if tryouts is None:
        raise Http404
    if not all(tryout.is_finished for tryout in tryouts):
        tryouts_watch(tryout.pk for tryout in tryouts)
        tryouts = selectors.tryouts_named(requester, ids) or tryouts
    context = answers_context(tryouts)
    if request.htmx:
        if request.GET.get("known") == context["standing"]:
            return HttpResponse(status=204)
        return render(request, "playground/_answers.html", context)
    return render(request, "playground/answers.html", context)


def answers_address(tryouts: Sequence[TryOut]) -> str:
    return f"{reverse('trying:answers')}?{urlencode([('of', str(tryout.pk)) for tryout in tryouts])}"


def answers_context(tryouts: Sequence[TryOut]) -> dict[str, Any]:
    """What is shown of them. The base answers each prompt once: modules may have templates of their own."""
    by_prompt = {tryout.result["prompt"]: tryout for tryout in reversed(tryouts) if tryout.result is not None}
    waiting = [tryout for tryout in tryouts if not tryout.is_finished]
    names = [selectors.adapter_name(tryout) for tryout in tryouts]
    return {
        "tryouts": list(zip(names, tryouts, strict=True)),
        "of_base": [(selectors.adapter_name(tryout), tryout) for tryout in reversed(by_prompt.values())],
        "is_finished": not waiting,
        "ahead": selectors.ahead_of(waiting[0]) if waiting else 0,
        "missing_worker": selectors.missing_worker_text(waiting[0]) if waiting else "",
        "standing": ".".join(status_key(tryout) for tryout in tryouts),
        "address": answers_address(tryouts),
        "page": f"{reverse('modules_registry:compare')}?{urlencode([('id', name) for name in names])}",
        "input": tryouts[0].input,
    }


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
    asked = arguments_of(form)
    with requester_with_session(request) as requester:
        return tryout_ask(requester=requester, target=target, **asked)


def arguments_of(form: TryForm) -> dict[str, Any]:
    if not form.is_valid():
        said = [str(message) for messages in form.errors.values() for message in messages]
        raise Refusal("invalid", " ".join(said), status=422)
    return form.service_arguments()


def refusal_fragment(request: PageRequest, refusal: Refusal) -> HttpResponse:
    """Where it was asked from. htmx shows no answer with an error's status, so there it comes with 200.

    It has a place of its own: the question before, which may still wait for its answer, keeps its place.
    """
    response = render(request, "playground/_refusal.html", refusal_context(refusal))
    return reswap(retarget(response, "#try-refusal"), "innerHTML")


def refusal_context(refusal: Refusal) -> dict[str, Any]:
    return {"refusal": refusal.message, "is_for_later": refusal.retry_after_s is not None}


def refusal_response(request: PageRequest, target: Target, form: TryForm, refusal: Refusal) -> HttpResponse:
    if request.htmx:
        return refusal_fragment(request, refusal)
    context = refusal_context(refusal)
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
