"""The pages of a private link: for the owner to make and withdraw it, for its reader to read."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from composer.access import get_own_composition
from composer.matching.leakage import leakage_text_without_names, leaking_modules
from composer.models import ShareLink
from composer.report.adapter_zip import adapter_shared, baseline_shared, shared_files
from composer.report.exports import FILES, file_response
from composer.report.page import report_view
from composer.report.snippets import Snippet, SnippetQuestion, get_shared, snippets
from composer.share.example import example_link
from composer.share.services import (
    DAYS_MAX,
    redacted_report,
    share_find,
    share_renew,
    share_withdraw,
    shared_text,
)
from hub_site.accounts.requests import SignedInRequest
from hub_site.common.compression import never_compressed
from hub_site.common.downloads import serve_download
from hub_site.common.errors import Refusal
from modules_registry.views import site_of


class ShareForm(forms.Form):
    """What a new link shows, and for how long."""

    shows_answers = forms.BooleanField(required=False)
    days = forms.IntegerField(required=False, min_value=1, max_value=DAYS_MAX)


SharedView = Callable[..., HttpResponseBase]


@login_required
@require_POST
def share_renew_page(request: SignedInRequest, composition_id: UUID) -> HttpResponse:
    composition = get_own_composition(request.user, composition_id)
    form = ShareForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"Days: {form.errors['days'][0]}")
        return redirect(f"{composition.get_absolute_url()}#share")
    try:
        share_renew(owner=request.user, composition_id=composition_id, **form.cleaned_data)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect(f"{composition.get_absolute_url()}#share")


@login_required
@require_POST
def share_withdraw_page(request: SignedInRequest, composition_id: UUID) -> HttpResponse:
    composition = get_own_composition(request.user, composition_id)
    share_withdraw(owner=request.user, composition_id=composition_id)
    messages.success(request, "Link revoked.")
    return redirect(f"{composition.get_absolute_url()}#share")


def by_link(view: SharedView) -> SharedView:
    """Find the link, or say that there is none; let no search engine keep it and no page pass it on."""

    @never_cache
    @never_compressed
    @require_safe
    @wraps(view)
    def with_link(request: HttpRequest, token: str, **more: Any) -> HttpResponseBase:
        link = share_find(token)
        if link is None:
            raise Http404
        response = view(request, link, **more)
        response["X-Robots-Tag"] = "noindex, nofollow"
        response["Referrer-Policy"] = "no-referrer"
        return response

    return with_link


@by_link
def shared_report(request: HttpRequest, link: ShareLink) -> HttpResponse:
    return render(request, "composer/composition_report.html", shared_view(request, link))


@require_safe
def example_report(request: HttpRequest) -> HttpResponse:
    """The report that the site makes itself, for who wants to see one; search engines may keep it."""
    link = example_link()
    if link is None:
        raise Http404
    context = shared_view(request, link) | {"is_example": True}
    return render(request, "composer/composition_report.html", context)


def shared_view(request: HttpRequest, link: ShareLink) -> dict[str, Any]:
    """Everything that the page of a shared report shows."""
    composition, report = link.composition, redacted_report(link)
    files = shared_files(composition)
    module = composition.published_module
    leaking = leaking_modules(composition)
    return {
        **report_view(composition, report, show=request.GET.get("show", ""), page=request.GET.get("page")),
        "composition": composition,
        "is_shared": True,
        "leakage_text": leakage_text_without_names(len(leaking)) if leaking else "",
        "address": link.get_absolute_url(),
        "site": site_of(request),
        "snippets": shared_snippets(link, report, site_of(request)),
        "report_files": FILES,
        "files": files,
        "size_bytes": sum(file.size_bytes for file in files),
        "published": module if module and not module.is_hidden else None,
    }


def shared_snippets(link: ShareLink, report: dict[str, Any], site: str) -> list[Snippet]:
    """How to use it; asked with an example only if the reader is shown them."""
    composition = link.composition
    shown = report["predictions"][:1]
    return snippets(
        composition,
        rank=report["rank"],
        question=SnippetQuestion(report["template"], shown[0]["input"] if shown else "your own input"),
        get=get_shared(composition, site, link.get_absolute_url()),
    )


@by_link
def shared_adapter(request: HttpRequest, link: ShareLink) -> HttpResponseBase:
    return serve_download(request, adapter_shared(link.composition, partial(shared_text, link)))


@by_link
def shared_baseline_adapter(request: HttpRequest, link: ShareLink, key: str) -> HttpResponseBase:
    download = baseline_shared(link.composition, key, partial(shared_text, link))
    if download is None:
        raise Http404
    return serve_download(request, download)


@by_link
def shared_file(_request: HttpRequest, link: ShareLink, name: str) -> HttpResponse:
    return file_response(link.composition, redacted_report(link), name)
