"""Find modules by examples: the form, and the modules by what they lost."""

import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from composer.core.spec.choices import ANSWERS_OF_FOUND
from composer.finding import selectors
from composer.finding.forms import FindForm
from composer.finding.services import example_search_ask
from composer.guests import visitors_may_compose
from composer.models import ExampleSearch
from composer.playground.requester import requester_of, requester_with_session
from composer.playground.services import may_ask
from composer.task.demo_tasks import demo_task
from hub_site.common.errors import Refusal
from hub_site.common.requests import PageRequest
from hub_site.jobs.models import Status

WORDS_MAX = 300


@never_cache
@require_http_methods(["GET", "POST"])
def find(request: PageRequest) -> HttpResponse:
    """GET: the form. POST: search, also by the examples of a compose form."""
    requester = requester_of(request)
    bases = selectors.bases_for(requester)
    if request.method == "GET":
        form = FindForm(bases=bases, initial=initial_of(request))
        return render(request, "finding/find.html", form_context(request, form))
    form = FindForm(request.POST, bases=bases)
    if not form.is_valid():
        return render(request, "finding/find.html", form_context(request, form), status=422)
    try:
        with requester_with_session(request) as asker:
            search = example_search_ask(requester=asker, **form.cleaned_data)
    except Refusal as refusal:
        form.refuse(refusal)
        status = 422 if refusal.status == 400 else refusal.status  # as what the form itself finds
        answer = render(request, "finding/find.html", form_context(request, form), status=status)
        for name, value in refusal.headers.items():
            answer[name] = value
        return answer
    return redirect(search)


@never_cache
@require_safe
def search_page(request: PageRequest, search_id: UUID) -> HttpResponse:
    """The modules so far; by htmx the part that changes alone, and nothing while it is as before."""
    search = selectors.search_of(requester_of(request), search_id)
    if search is None:
        raise Http404
    if request.htmx and request.GET.get("known") == standing(search):
        return HttpResponse(status=204)
    template = "finding/_found.html" if request.htmx else "finding/search.html"
    return render(request, template, search_context(request, search))


def initial_of(request: PageRequest) -> dict[str, str]:
    """What the address says: words and a base, or a ready-made task with its examples."""
    task = demo_task(request.GET["task"]) if "task" in request.GET else None
    if task is not None:
        rows = [{"input": pair.input, "output": pair.output} for pair in task.shots[: selectors.EXAMPLES_MAX]]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        return {"shots_text": text, "sentence": task.sentence, "base": task.base}
    return {"sentence": request.GET.get("q", "")[:WORDS_MAX], "base": request.GET.get("base", "")}


def form_context(request: PageRequest, form: FindForm) -> dict[str, Any]:
    requester = requester_of(request)
    return {
        "form": form,
        "may_ask": may_ask(requester),
        "has_base": bool(selectors.bases_for(requester)),
        "is_visitor": requester.user is None,
        "examples_max": selectors.EXAMPLES_MAX,
    }


def search_context(request: PageRequest, search: ExampleSearch) -> dict[str, Any]:
    modules = selectors.found_modules(search, request.user)
    measured = [module for module in modules if module.is_measured]
    better = [module for module in measured if (module.drop_nats or 0) > 0]
    return {
        "search": search,
        "modules": modules,
        "n_tried": len(search.modules),
        "n_measured": sum(row.get("n_shots") == len(search.examples) for row in search.modules),
        "better": better,
        "n_answered_max": ANSWERS_OF_FOUND,
        "first": search.pairs[0],
        "ahead": selectors.ahead_of(search),
        "standing": standing(search),
        "may_compose": search.owner_id is not None or visitors_may_compose(),
    }


def standing(search: ExampleSearch) -> str:
    """What the page shows of it, short: as long as it is the same there is nothing new."""
    if search.status == Status.QUEUED:
        return f"{search.status}-{selectors.ahead_of(search)}"
    return f"{search.status}-{search.lease_until}" if search.status == Status.RUNNING else str(search.status)
