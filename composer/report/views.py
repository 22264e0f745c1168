"""Downloads of a finished composition: its adapter, its examples, its report's files."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from composer.access import get_own_composition
from composer.report.adapter_zip import adapter_download, baseline_download
from composer.report.exports import examples_file, file_response
from hub_site.accounts.requests import SignedInRequest
from hub_site.common.downloads import serve_download


@login_required
@require_safe
def composition_file(request: SignedInRequest, composition_id: UUID, name: str) -> HttpResponse:
    """The report as a file, whole."""
    composition = get_own_composition(request, composition_id)
    if not composition.is_done:
        raise Http404
    return file_response(composition, composition.report or {}, name)


@login_required
@require_safe
def composition_adapter(request: SignedInRequest, composition_id: UUID) -> HttpResponseBase:
    composition = get_own_composition(request, composition_id)
    if not composition.has_adapter:
        raise Http404
    return serve_download(request, adapter_download(composition))


@login_required
@require_safe
def composition_baseline_adapter(
    request: SignedInRequest, composition_id: UUID, key: str
) -> HttpResponseBase:
    """The adapter of a baseline: the LoRA trained on the examples, or the tuned composition."""
    download = baseline_download(get_own_composition(request, composition_id), key)
    if download is None:
        raise Http404
    return serve_download(request, download)


@login_required
@require_safe
def composition_examples(request: SignedInRequest, composition_id: UUID, role: str) -> HttpResponse:
    answer = examples_file(get_own_composition(request, composition_id), role)
    if answer is None:
        raise Http404
    return answer
