from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from composer import selectors
from composer.adapter_zip import adapter_download
from composer.core.choices import (
    BUDGET_OF_METHOD,
    METHODS,
    NEVERGRAD,
    SEARCH_OF_AUTO,
    SEARCHES_OF_METHOD,
    SELECTORS,
)
from composer.examples import COLUMN_NAMES, HELD_OUT_MAX, SHOTS_MAX, json_lines
from composer.forms import CompositionForm, selection_initial
from composer.models import Composition
from composer.publish_forms import publish_panel
from composer.report import FILE_OF_ROLE, command, outcome, race_so_far, report_view
from composer.serializers import after
from composer.services import composition_cancel, composition_delete, composition_request, composition_stop
from hub_site.common.downloads import serve_download
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel

PER_PAGE = 20
TASKS_SHOWN = 4  # ready-made ones; the others fold away, out of the keyboard's path
USUAL_METHODS = ("auto", "exact", "lorahub")
STAGES = {
    "load": "Load",
    "screen": "Try each module",
    "search": "Search the weights",
    "export": "Write the adapter",
    "evaluate": "Check it",
}
NO_WORKER = (
    "Queued for {seconds} s, and no worker has picked it up. Your request is safe: it starts by itself "
    "when the compose worker is back. If this lasts, tell the site's operator."
)
NO_BASE = "A composition adapts a base model. Ask the site's operator to add one."
NO_BASE_FOR_STAFF = (
    "A composition adapts a base model. Add one with “./hub manage load_demo” "
    "or “./hub manage add_base_model”."
)
LOSS_OF_PARTS = (
    "This number is the search's own: the mean of several fits, each of which leaves out a part of your "
    "examples. The report gives the loss of the finished mix on all of them, so the two differ."
)
LOSS_OF_SEARCH = (
    "This number is what the search lowers, and may hold a small penalty for large weights. "
    "The report gives the plain loss of the finished mix."
)
SILENT_WORKER = (
    "Its worker has been silent for {seconds} s. If it is gone, another one starts the work again "
    "within a minute."
)


@login_required
@require_safe
def composition_list(request: HttpRequest) -> HttpResponse:
    page = Paginator(selectors.compositions_listed(request.user), PER_PAGE).get_page(request.GET.get("page"))
    rows = [(row, outcome(row.decision, row.race) if row.is_done else None) for row in page]
    return render(request, "composer/composition_list.html", {"page": page, "rows": rows})


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def composition_new(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        form = CompositionForm(owner=request.user, initial=beginning(request))
        return render(request, "composer/composition_new.html", page_of(form))
    form = CompositionForm(request.POST, request.FILES, owner=request.user)
    composition = request_from(form)
    if composition is None:
        form.keep_uploads()
        return render(request, "composer/composition_new.html", page_of(form), status=422)
    say_what_was_left_out(request, form, composition)
    return redirect(composition)


def request_from(form: CompositionForm) -> Composition | None:
    """Ask for what the form says; None, with the reason in the form, if that cannot be."""
    if not form.is_valid():
        return None
    try:
        return composition_request(owner=form.owner, **form.cleaned_data)
    except Refusal as refusal:
        form.refuse(refusal)
        return None


def say_what_was_left_out(request: HttpRequest, form: CompositionForm, composition: Composition) -> None:
    left_out = len(form.cleaned_data["held_out"]) - len(selectors.held_out_of(composition))
    if left_out:
        text = (
            f"{left_out} held-out examples are also among your examples; they were left out of the measuring."
        )
        messages.info(request, text)


def page_of(form: CompositionForm) -> dict[str, Any]:
    base = selectors.base_find(str(form["base"].value() or "")) or selectors.base_default()
    methods = methods_to_choose_from(base, str(form["method"].value()))
    return {
        "form": form,
        "base": base,
        "methods": methods,
        "modules": selectors.modules_to_choose_from(base) if base else [],
        "fitting": methods["usual"][0]["fitting"],
        "chosen": set(form["modules"].value() or ()),
        "tasks": selectors.demo_tasks()[:TASKS_SHOWN],
        "more_tasks": selectors.demo_tasks()[TASKS_SHOWN:],
        "example_input": selectors.example_input(base) if base else "",
        "held_out_kept": held_out_kept(form),
        "selection_fields": [
            form[name] for name in ("selection", "screen_count", "random_count", "steps", "modules")
        ],
        "selectors": SELECTORS,
        "no_base_words": NO_BASE_FOR_STAFF if form.owner.is_staff else NO_BASE,
        "column_names": COLUMN_NAMES,
        "shots_max": SHOTS_MAX,
        "held_out_max": HELD_OUT_MAX,
    }


def methods_to_choose_from(base: BaseModel | None, chosen: str) -> dict[str, Any]:
    """The usual methods, then those one compares with; each with its budget and how many modules fit it."""
    described = [
        {
            "choice": method,
            "budget": BUDGET_OF_METHOD[method.name],
            "searches": " ".join(SEARCHES_OF_METHOD[method.name]),
            "fitting": sum(fit.fits for fit in selectors.fits(base, method.name)) if base else 0,
        }
        for method in METHODS
    ]
    usual = [method for method in described if method["choice"].name in USUAL_METHODS]
    other = [method for method in described if method not in usual]
    return {
        "usual": usual,
        "other": other,
        "other_chosen": any(method["choice"].name == chosen for method in other),
    }


def held_out_kept(form: CompositionForm) -> dict[str, Any] | None:
    """The held-out examples that the page offers by name, and how many they are."""
    source = form["held_out_from"].value()
    if not source:
        return None
    found = selectors.held_out_named(source, form.owner)
    return {"source": source, "count": len(found)} if found else None


def beginning(request: HttpRequest) -> dict[str, Any]:
    """What the form begins with: a demo task, an earlier composition, or modules from the library."""
    if task := selectors.demo_task(request.GET.get("task", "")):
        return {
            "name": task.name,
            "sentence": task.sentence,
            "shots": [(pair.input, pair.output) for pair in task.shots],
            "held_out_from": f"task:{task.name}",
        }
    if "again" in request.GET:
        earlier = selectors.composition_named(request.user, request.GET["again"])
        if earlier is None:
            raise Http404
        return again(earlier)
    if names := request.GET.getlist("modules"):
        return {"selection": "chosen", "modules": names}
    return {}


def again(earlier: Composition) -> dict[str, Any]:
    as_asked = (
        "name", "sentence", "method", "objective", "budget", "batch_size", "seed", "precision", "device",
        "rank", "template", "max_new_tokens", "baselines",
    )  # fmt: skip
    initial: dict[str, Any] = {name: getattr(earlier, name) for name in as_asked}
    initial |= selection_initial(earlier.selection)
    initial["shots"] = [(pair.input, pair.output) for pair in selectors.shots_of(earlier)]
    initial["base"] = earlier.base.name
    if earlier.search.startswith(NEVERGRAD):
        initial["nevergrad"] = earlier.search.removeprefix(NEVERGRAD)
    else:
        initial["search"] = earlier.search
    if earlier.budget == BUDGET_OF_METHOD[earlier.method]:
        del initial["budget"]  # as if left out: another method brings its own
    if earlier.selection.startswith("chosen"):
        initial["modules"] = list(earlier.modules.values_list("name", flat=True))
    if selectors.held_out_of(earlier):
        initial["held_out_from"] = f"composition:{earlier.pk}"
    return initial


@login_required
@never_cache
@require_safe
def composition_page(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    """The page to watch it on while it runs; its report when it is done; why, when it is not."""
    composition = own(request, composition_id)
    context: dict[str, Any] = {"composition": composition}
    if composition.is_done:
        context |= report_view(composition, request.GET.get("show", ""))
        context["command"] = command(composition, request.build_absolute_uri("/").rstrip("/"))
        context |= publish_panel(composition)
        context["files"] = files = list(selectors.result_files(composition))
        context["size_bytes"] = sum(file.size_bytes for file in files)
        return render(request, "composer/composition_report.html", context)
    if composition.is_finished:
        return render(request, "composer/composition_ended.html", context)
    context |= progress_of(composition)
    context["module_names"] = list(composition.modules.values_list("name", flat=True))
    return render(request, "composer/composition_watch.html", context)


@login_required
@never_cache
@require_safe
def composition_progress(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    """The part of the watching page that says where it stands; a finished one asks for the whole page."""
    composition = own(request, composition_id)
    if composition.is_finished:
        return HttpResponse(headers={"HX-Refresh": "true"})
    context = progress_of(composition) | {"is_alone": True}
    # Swapped only when they are others: a button that is replaced loses the focus, or a click.
    context["are_actions_new"] = request.GET.get("actions") != context["actions"]
    return render(request, "composer/_progress.html", context)


def progress_of(composition: Composition) -> dict[str, Any]:
    waiting = selectors.waiting_since(composition)
    has_adapter = composition.has_adapter
    can_stop = composition.status == Status.RUNNING and not composition.stop_requested and not has_adapter
    return {
        "composition": composition,
        "waiting": waiting,
        "steps": stage_steps(composition.stage),
        "loss_words": loss_words(composition),
        "no_worker": NO_WORKER.format(seconds=waiting.seconds),
        "has_adapter": has_adapter,
        "can_stop": can_stop,
        "actions": f"{has_adapter:d}{can_stop:d}{composition.cancel_requested:d}",
        "rows": race_so_far(selectors.baselines_told(composition)),
        "silent_worker": SILENT_WORKER.format(seconds=waiting.seconds),
    }


def loss_words(composition: Composition) -> str:
    """Why the running search's loss is not the report's."""
    in_parts = composition.search == "auto" and SEARCH_OF_AUTO.get(composition.method) == "blend"
    return LOSS_OF_PARTS if in_parts else LOSS_OF_SEARCH


def stage_steps(stage: str) -> list[dict[str, str]]:
    """The stages as a step bar: those before the current one are done."""
    reached = list(STAGES).index(stage) if stage in STAGES else -1
    states = ["done" if i < reached else "current" if i == reached else "waiting" for i in range(len(STAGES))]
    return [{"label": label, "state": state} for label, state in zip(STAGES.values(), states, strict=True)]


@login_required
@never_cache
@require_safe
def composition_events(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    """What the page's loss curve and bars are drawn from."""
    try:
        news = selectors.news_of(own(request, composition_id), after(request.GET))
    except Refusal as refusal:
        return JsonResponse({"error": refusal.message}, status=refusal.status)
    return JsonResponse(news | {"events": [event_line(event) for event in news["events"]]})


def event_line(event: Any) -> dict[str, Any]:
    return {
        "number": event.number,
        "attempt": event.generation,
        "kind": event.kind,
        "detail": event.shown,
    }


@login_required
@require_safe
def composition_adapter(request: HttpRequest, composition_id: UUID) -> HttpResponseBase:
    composition = own(request, composition_id)
    if not composition.has_adapter:
        raise Http404
    return serve_download(request, adapter_download(composition))


@login_required
@require_safe
def composition_examples(request: HttpRequest, composition_id: UUID, role: str) -> HttpResponse:
    """The examples as the command line reads them, byte for byte what the composition was made from."""
    pairs = selectors.examples_of(own(request, composition_id), role)
    if not pairs:
        raise Http404
    headers = {"Content-Disposition": f'attachment; filename="{FILE_OF_ROLE[role]}"'}
    return HttpResponse(json_lines(pairs), content_type="application/x-ndjson", headers=headers)


@login_required
@require_POST
def composition_cancel_page(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    own(request, composition_id)
    return redirect(composition_cancel(owner=request.user, composition_id=composition_id))


@login_required
@require_POST
def composition_stop_page(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    composition = own(request, composition_id)
    try:
        composition_stop(owner=request.user, composition_id=composition_id)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect(composition)


@login_required
@require_POST
def composition_delete_page(request: HttpRequest, composition_id: UUID) -> HttpResponse:
    composition = own(request, composition_id)
    try:
        composition_delete(owner=request.user, composition_id=composition_id)
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect(composition)
    messages.success(request, f"“{composition.name}” is deleted, with its examples and its adapter.")
    return redirect("composer:list")


def own(request: HttpRequest, composition_id: UUID) -> Composition:
    composition = selectors.composition_find(request.user, composition_id)
    if composition is None:
        raise Http404
    return composition
