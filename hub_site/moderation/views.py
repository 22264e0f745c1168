"""The report form for everybody, and the pages on which staff decide."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from composer.share.services import share_find
from hub_site.accounts.models import User
from hub_site.accounts.requests import SignedInRequest
from hub_site.accounts.staff import for_staff
from hub_site.common.compression import never_compressed
from hub_site.common.errors import Refusal
from hub_site.moderation import selectors
from hub_site.moderation.forms import DecisionForm, ReportForm
from hub_site.moderation.selectors import Thing
from hub_site.moderation.services import account_decide, report_file, thing_decide
from modules_registry.access import module_or_404
from modules_registry.forms import add_refusal

THANKS = "Thank you. Staff will look at it."


@require_http_methods(["GET", "POST"])
def report_module(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    module = module_or_404(namespace, name, request.user)
    return report_page(request, Thing(module), module.full_name, module.get_absolute_url())


@never_cache
@never_compressed
@require_http_methods(["GET", "POST"])
def report_shared(request: HttpRequest, token: str) -> HttpResponse:
    link = share_find(token)
    if link is None:
        raise Http404
    answer = report_page(request, Thing(link.composition), "this shared report", link.get_absolute_url())
    answer["X-Robots-Tag"] = "noindex, nofollow"
    answer["Referrer-Policy"] = "no-referrer"
    return answer


def report_page(request: HttpRequest, thing: Thing, name: str, back: str) -> HttpResponse:
    reporter = request.user if isinstance(request.user, User) else None
    form = ReportForm(request.POST or None, has_account=reporter is not None)
    status, headers = 200, dict[str, str]()
    if form.is_valid():
        address = str(request.META.get("REMOTE_ADDR", ""))
        try:
            report_file(thing=thing, reporter=reporter, address=address, **form.cleaned_data)
        except Refusal as refusal:
            add_refusal(form, refusal)
            headers = refusal.headers
            status = refusal.status if headers else 200
        else:
            messages.success(request, THANKS)
            return redirect(back)
    context = {"form": form, "name": name, "back": back}
    answer = render(request, "moderation/report.html", context, status=status)
    for header, value in headers.items():
        answer[header] = value
    return answer


@for_staff
@require_safe
def queue(request: SignedInRequest) -> HttpResponse:
    context = {
        "cases": selectors.cases_waiting(),
        "held": selectors.things_held(),
        "suspended": selectors.accounts_suspended(),
    }
    return render(request, "moderation/queue.html", context)


@for_staff
@require_http_methods(["GET", "POST"])
def thing_page(request: SignedInRequest, kind: str, key: str) -> HttpResponse:
    thing = selectors.thing_find(kind, key)
    if thing is None:
        raise Http404
    form = DecisionForm(request.POST or None, decisions=thing.decisions)
    if form.is_valid():
        try:
            thing_decide(staff=request.user, thing=thing, **form.cleaned_data)
        except Refusal as refusal:
            add_refusal(form, refusal)
        else:
            messages.success(request, "Decision recorded in the audit.")
            return redirect("moderation:queue")
    context = {
        "thing": thing,
        "same_weights": thing.same_weights,
        "form": form,
        "reports": selectors.reports_about(thing),
        "entries": selectors.entries_about(thing.row),
    }
    return render(request, "moderation/thing.html", context)


@for_staff
@require_safe
def account_search(request: SignedInRequest) -> HttpResponse:
    name = request.GET.get("name", "").strip()
    account = selectors.account_find(name) if "\x00" not in name else None
    if account is None:
        messages.error(request, f"There is no account “{name[:96]}”.")
        return redirect("moderation:queue")
    return redirect("moderation:account", account.username)


@for_staff
@require_http_methods(["GET", "POST"])
def account_page(request: SignedInRequest, namespace: str) -> HttpResponse:
    account = selectors.account_find(namespace)
    if account is None:
        raise Http404
    form = DecisionForm(request.POST or None, decisions=selectors.account_decisions(account))
    if form.is_valid():
        try:
            account_decide(staff=request.user, account=account, **form.cleaned_data)
        except Refusal as refusal:
            add_refusal(form, refusal)
        else:
            messages.success(request, "Decision recorded in the audit.")
            return redirect("moderation:account", account.username)
    context = {"account": account, "form": form, "entries": selectors.entries_about(account)}
    return render(request, "moderation/account.html", context)
