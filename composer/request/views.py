"""The page to ask for a composition on: what it begins with, what it tells meanwhile, sending it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from composer import selectors
from composer.access import OwnerRequest, VisitorRequest, for_owners, for_visitors, require_owner
from composer.core.spec.choices import (
    BASELINES_OF_LEVEL,
    BUDGET_OF_METHOD,
    DEFAULT_LEVEL,
    METHODS,
    NEVERGRAD,
    SEARCHES_OF_METHOD,
    SELECTORS,
    level_budget,
)
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import MissingOutputError
from composer.core.spec.example_dialects import quoted
from composer.core.spec.example_files import ExampleLinesError
from composer.core.spec.example_header import header_notes
from composer.core.spec.example_rows import cells_of_column
from composer.guests import SIGN_UP
from composer.matching.compatibility import modules_to_choose_from
from composer.matching.leakage import leakage_text, leaking_modules
from composer.matching.ranking import MODULES_NAMED_MAX
from composer.matching.unwritable import unwritable_text
from composer.models import Composition
from composer.request.drafts import draft_discard, draft_keep
from composer.request.forms import (
    LIMITS,
    ROWS_AT_LEAST,
    CompositionForm,
    ExamplesFileField,
    first_lines,
    selection_initial,
)
from composer.request.preview import file_shown, make_preview
from composer.request.selectors import composition_sent_by, draft_find, drafts_of, find_held_out
from composer.request.services import composition_request, worker_request
from composer.task.demo_tasks import DemoTask, demo_task, demo_tasks_beside
from composer.task.examples import EXAMPLES_MAX, HELD_OUT_MAX, read_pasted
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from hub_site.common.visitors import session_hash
from modules_registry.models import BaseModel

WORDS_CHARACTERS_MAX = 200
HEADER_LEFT_OUT = (
    "The first row, {names}, names the columns and was left out. If it is an example, type it in."
)
TASKS_SHOWN = 4  # ready-made ones; the others fold away, out of the keyboard's path
USUAL_METHODS = ("auto", "exact", "lorahub")
NO_BASE = "A composition adapts a base model. Ask the site's operator to add one."
NO_BASE_FOR_STAFF = (
    "A composition adapts a base model. Add one with “./hub manage load_demo” "
    "or “./hub manage add_base_model”."
)


@for_visitors
@never_cache
@require_http_methods(["GET", "POST"])
def composition_new(request: VisitorRequest) -> HttpResponse:
    if request.method == "GET":
        start = form_start(request)
        form = CompositionForm(owner=request.owner, initial=start.initial)
        return render(request, "composer/composition_new.html", page_of(form) | start.context)
    form = CompositionForm(request.POST, request.FILES, owner=request.owner)
    if "keep" in request.POST:
        return keep_and_reopen(request, form)
    composition = request_from(request, form)
    if composition is None:
        form.keep_uploads()
        return render(request, "composer/composition_new.html", page_of(form), status=422)
    draft_discard(owner=composition.owner, key=form.own_key)
    say_what_to_know(request, form, composition)
    return redirect(composition)


def keep_and_reopen(request: VisitorRequest, form: CompositionForm) -> HttpResponse:
    """The buttons that keep the form as it stands, give it more rows, keep some aside, or ask for a worker.

    Without a script also the one that leaves out the first row of a text.
    """
    fields, wish = form.kept_fields(), request.POST["keep"]
    if wish == "rows":
        for side in ("input", "output"):
            fields[f"shots_{side}"] = [*fields.get(f"shots_{side}", []), *[""] * ROWS_AT_LEAST]
    if wish == "aside":
        fields = form.fields_with_some_aside()
    group = wish.removesuffix("_header")
    if wish.endswith("_header") and group in LIMITS:
        fields[wish] = ["on"]
    try:
        draft = draft_keep(owner=require_owner(request), key=form.own_key, fields=fields)
    except Refusal as refusal:
        form.refuse(refusal)
        return render(request, "composer/composition_new.html", page_of(form), status=refusal.status)
    if wish == "ask_worker":
        ask_for_worker(request, form)
    place = "#held-out" if wish == "aside" else f"#{group}-reading" if group in LIMITS else ""
    return redirect(f"{draft.get_absolute_url()}&goes-on{place}")


def ask_for_worker(request: VisitorRequest, form: CompositionForm) -> None:
    base = str(form["base"].value() or "") or None
    if request.owner is None or request.owner.is_guest:
        messages.error(request, f"Only accounts can ask staff for a worker. {SIGN_UP}")
        return
    try:
        worker_request(owner=request.owner, base=base, device=str(form["device"].value()))
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, "Request sent to staff. Your form is saved as a draft.")


@for_visitors
@require_POST
def draft_keep_page(request: VisitorRequest) -> HttpResponse:
    """Keep the form while it is typed, and tell what it would lead to. The answer is fragments alone."""
    form = CompositionForm(request.POST, owner=request.owner)
    context: dict[str, Any] = {"form": form, "preview": make_preview(form), "is_alone": True}
    try:
        owner = require_owner(request)
        context["draft"] = draft = draft_keep(owner=owner, key=form.own_key, fields=form.kept_fields())
    except Refusal as refusal:
        context["not_kept"] = refusal.message
        return render(request, "composer/_preview.html", context)
    # A reload, or the way back from elsewhere, then opens this very draft.
    headers = {"HX-Replace-Url": draft.get_absolute_url()}
    return HttpResponse(render_to_string("composer/_preview.html", context, request), headers=headers)


@for_owners
@require_POST
def draft_discard_page(request: OwnerRequest, key: str) -> HttpResponse:
    draft_discard(owner=request.owner, key=key)
    messages.success(request, "Draft discarded.")
    return redirect("composer:new")


@for_visitors
@never_cache
@require_safe
def chooser(request: VisitorRequest) -> HttpResponse:
    """The modules to choose by hand that have the words looked for."""
    base = selectors.base_find(request.GET.get("base", ""))
    if base is None:
        raise Http404
    chosen = set(request.GET.getlist("modules")[:MODULES_NAMED_MAX])
    words = request.GET.get("find", "")[:WORDS_CHARACTERS_MAX]
    found = modules_to_choose_from(base, request.owner, words, chosen)
    return render(request, "composer/_chooser.html", {"found": found, "base": base, "is_alone": True})


@for_visitors
@require_POST
def examples_read(request: VisitorRequest) -> HttpResponse:
    """What was dropped onto the grid or pasted into it, as rows, with what is not used of it.

    What cannot be read comes back as text, to choose its columns in the form; one column, as its cells.
    A first row that looks like the names of the columns is left out, and told.
    """
    text = ""
    try:
        sent = ExamplesFileField().clean(request.FILES.get("file"))
        name, text = sent or ("", "")
        reading = read_pasted(text, limit=EXAMPLES_MAX + HELD_OUT_MAX)
    except ValidationError as error:
        return JsonResponse({"problems": error.messages}, status=422)
    except ExampleLinesError as error:
        kept = first_lines(text, EXAMPLES_MAX) if error.columns else ""
        body = {"problems": error.problems, "text": kept, "column": column_alone(text, error)}
        return JsonResponse({name: value for name, value in body.items() if value}, status=422)
    if not reading.examples:
        return JsonResponse({"problems": [f"“{name}” holds no examples."]}, status=422)
    pairs = reading.examples[1:] if reading.header else reading.examples
    rows = [[pair.input, pair.output] for pair in pairs]
    notes = [note for note in reading.notes if note not in header_notes(reading.header)]
    if reading.header:
        notes.append(HEADER_LEFT_OUT.format(names=quoted(reading.header)))
    return JsonResponse({"rows": rows, "notes": notes})


@for_visitors
@require_POST
def file_reading(request: VisitorRequest, group: str) -> HttpResponse:
    """What is read of a chosen file, by the columns chosen for it, and what is not used of it."""
    if group not in LIMITS:
        raise Http404
    shown = file_shown(CompositionForm(request.POST, request.FILES, owner=request.owner), group)
    return render(request, "composer/_reading.html", {"shown": shown})


def column_alone(text: str, error: ExampleLinesError) -> list[str]:
    """The cells of a text of one column, where each row lacks an output and nothing else; else none."""
    is_column = all(isinstance(line.error, MissingOutputError) for line in error.lines)
    cells = cells_of_column(text) if is_column else []
    return cells if len(cells) == len(error.lines) else []


def request_from(request: VisitorRequest, form: CompositionForm) -> Composition | None:
    """Ask for what the form says; None, with the reason in the form, if that cannot be."""
    if not form.is_valid():
        return None
    try:
        return composition_request(owner=require_owner(request), **form.cleaned_data)
    except Refusal as refusal:
        form.refuse(refusal)
        return None


def say_what_to_know(request: HttpRequest, form: CompositionForm, composition: Composition) -> None:
    for note in form.notes:
        messages.info(request, note)
    left_out = len(form.cleaned_data["held_out"]) - len(selectors.held_out_examples(composition))
    if left_out:
        text = (
            f"Not measured on: {count_noun(left_out, 'held-out example')} whose input is also "
            "among your examples."
        )
        messages.info(request, text)
    if leaking := leaking_modules(composition):
        messages.warning(request, leakage_text(leaking))
    if unwritable := unwritable_text(composition.base, selectors.all_examples(composition)):
        messages.warning(request, unwritable)


def page_of(form: CompositionForm) -> dict[str, Any]:
    preview = make_preview(form)
    base = preview.base if preview else None
    chosen = set(form["modules"].value() or ())
    tasks = demo_tasks_beside([it.name for it in form.bases])
    # The list of thousands comes when it is looked at: by a script, or with a form that is kept.
    lists_modules = bool(chosen) or form["selection"].value() == "chosen"
    return {
        "form": form,
        "draft": draft_find(form.owner, form.own_key),
        "base": base,
        "preview": preview,
        "pasted": {group: pasted_fields(form, group) for group in LIMITS},
        "methods": methods_to_choose_from(),
        "found": modules_to_choose_from(base, form.owner, "", chosen) if base and lists_modules else None,
        **ready_made_tasks(tasks, base),
        "held_out_kept": held_out_kept(form),
        "selection_fields": [
            form[name] for name in ("selection", "screen_count", "random_count", "steps", "modules")
        ],
        "selectors": SELECTORS,
        "is_guest": form.owner is None or form.owner.is_guest,
        "no_base_words": NO_BASE_FOR_STAFF if form.owner and form.owner.is_staff else NO_BASE,
        "shots_max": EXAMPLES_MAX,
        "held_out_max": HELD_OUT_MAX,
    }


def pasted_fields(form: CompositionForm, group: str) -> dict[str, Any]:
    """The fields of a text of many examples; its columns are in sight where they are chosen or wrong."""
    fields: dict[str, Any] = {
        name: form[f"{group}_{name}"] for name in ("text", "file", "input_column", "output_column", "header")
    }
    columns = (fields[name] for name in ("input_column", "output_column", "header"))
    return fields | {"asks_columns": any(field.value() or field.errors for field in columns)}


def ready_made_tasks(tasks: Sequence[DemoTask], base: BaseModel | None) -> dict[str, Any]:
    """A few tasks of the chosen base model in sight; all others by their base model, its own first."""
    chosen = base.name if base else ""
    by_base: dict[str, list[DemoTask]] = {}
    for task in sorted(tasks, key=lambda task: task.base != chosen):  # the sort is stable
        by_base.setdefault(task.base, []).append(task)
    groups = list(by_base.items()) or [("", list[DemoTask]())]
    first, *others = groups
    shown, more = first[1][:TASKS_SHOWN], first[1][TASKS_SHOWN:]
    folded = [(first[0], more), *others] if more else others
    return {
        "tasks": shown,
        "folded_tasks": folded,
    }


def methods_to_choose_from() -> dict[str, Any]:
    """The usual methods, then those one compares with; each with its budget."""
    described: list[dict[str, Any]] = [
        {
            "choice": method,
            "budget": BUDGET_OF_METHOD[method.name],
            "searches": " ".join(SEARCHES_OF_METHOD[method.name]),
        }
        for method in METHODS
    ]
    usual = [method for method in described if method["choice"].name in USUAL_METHODS]
    return {"usual": usual, "other": [method for method in described if method not in usual]}


def held_out_kept(form: CompositionForm) -> dict[str, Any] | None:
    """The held-out examples that the page offers by name, and how many they are."""
    source = form["held_out_from"].value()
    if not source:
        return None
    found = find_held_out(source, form.owner)
    return {"source": source, "count": len(found)} if found else None


@dataclass(frozen=True)
class FormStart:
    """What the form begins with, and what its page tells of where that comes from."""

    initial: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


def form_start(request: VisitorRequest) -> FormStart:
    """A demo task, an earlier composition, modules from the library, or the draft that was left."""
    if "task" in request.GET and (task := demo_task(request.GET["task"])):
        return from_task(task, request.GET.get("level"))
    if "again" in request.GET:
        earlier = selectors.composition_named(request.owner, request.GET["again"])
        if earlier is None:
            raise Http404
        return FormStart(initial_from_composition(earlier), {"earlier": earlier})
    if "found" in request.GET:
        return from_example_search(request, request.GET["found"])
    if names := request.GET.getlist("modules"):
        return FormStart({"selection": "chosen", "modules": names[:MODULES_NAMED_MAX]})
    if "new" in request.GET:
        return FormStart()
    return from_draft(request.owner, request.GET.get("draft"), is_reopened="goes-on" not in request.GET)


def from_task(task: DemoTask, level: str | None) -> FormStart:
    """A ready-made task; without a level of its own, with the usual one."""
    initial = {
        "name": task.name,
        "sentence": task.sentence,
        "shots": [(pair.input, pair.output) for pair in task.shots],
        "held_out_from": f"task:{task.name}",
    }
    if selectors.base_find(task.base):
        initial["base"] = task.base
    if level in BASELINES_OF_LEVEL:
        initial["level"] = level
    return FormStart(initial)


def from_example_search(request: VisitorRequest, key: str) -> FormStart:
    """The examples that modules were found by."""
    search = selectors.example_search_named(request.owner, session_hash(request), key)
    if search is None:
        raise Http404
    return FormStart({"shots": search.pairs, "sentence": search.sentence, "base": search.base.name})


def from_draft(owner: User | None, key: str | None, *, is_reopened: bool) -> FormStart:
    """The draft of that key, or the latest; what was sent since then begins as a copy of what it became."""
    draft = draft_find(owner, key) if key else drafts_of(owner).first()
    if draft is not None:
        initial = CompositionForm.initial_of(draft.fields) | {"form_key": draft.key}
        return FormStart(initial, {"draft": draft, "is_reopened": is_reopened})
    if sent := composition_sent_by(owner, key or ""):
        return FormStart(initial_from_composition(sent), {"earlier": sent})
    return FormStart()


def initial_from_composition(earlier: Composition) -> dict[str, Any]:
    as_asked = (
        "name", "sentence", "method", "objective", "batch_size", "seed", "precision", "device",
        "rank", "template", "max_new_tokens",
    )  # fmt: skip
    initial: dict[str, Any] = {name: getattr(earlier, name) for name in as_asked}
    initial |= selection_initial(earlier.selection)
    initial |= level_initial(earlier)
    initial["shots"] = [(pair.input, pair.output) for pair in selectors.few_shot_examples(earlier)]
    initial["base"] = earlier.base.name
    if earlier.search.startswith(NEVERGRAD):
        initial["nevergrad"] = earlier.search.removeprefix(NEVERGRAD)
    else:
        initial["search"] = earlier.search
    if earlier.selection.startswith("chosen"):
        initial["modules"] = list(earlier.modules.values_list("name", flat=True))
    if selectors.held_out_examples(earlier):
        initial["held_out_from"] = f"composition:{earlier.pk}"
    return initial


def level_initial(earlier: Composition) -> dict[str, Any]:
    """The level that means what was asked for; else the usual one, with what was asked for beside it."""
    for level, baselines in BASELINES_OF_LEVEL.items():
        if (earlier.budget, earlier.baselines) == (level_budget(level, earlier.method), baselines):
            if level == "quick" and level_budget(DEFAULT_LEVEL, earlier.method) == earlier.budget:
                continue  # a method without levels: the usual one
            return {"level": level}
    own: dict[str, Any] = {"level": DEFAULT_LEVEL, "budget": earlier.budget, "baselines": earlier.baselines}
    if earlier.budget == level_budget(DEFAULT_LEVEL, earlier.method):
        del own["budget"]  # as if left out: another method brings its own
    if earlier.baselines == BASELINES_OF_LEVEL[DEFAULT_LEVEL]:
        del own["baselines"]
    return own
