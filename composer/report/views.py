"""Downloads of a finished composition: its adapter, its examples, its report's files."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from composer.access import OwnerRequest, for_owners, get_own_composition
from composer.report.adapter_zip import adapter_download, baseline_download
from composer.report.exports import examples_file, file_response
from hub_site.common.downloads import serve_download


@for_owners
@require_safe
def composition_file(request: OwnerRequest, composition_id: UUID, name: str) -> HttpResponse:
    """The report as a file, whole."""
    composition = get_own_composition(request.owner, composition_id)
    if not composition.is_done:
        raise Http404
    return file_response(composition, composition.report or {}, name)


@for_owners
@require_safe
def composition_adapter(request: OwnerRequest, composition_id: UUID) -> HttpResponseBase:
    composition = get_own_composition(request.owner, composition_id)
    if not composition.has_adapter:
        raise Http404
    return serve_download(request, adapter_download(composition))


@for_owners
@require_safe
def composition_baseline_adapter(request: OwnerRequest, composition_id: UUID, key: str) -> HttpResponseBase:
    """The adapter of a baseline: the LoRA trained on the examples, or the tuned composition."""
    download = baseline_download(get_own_composition(request.owner, composition_id), key)
    if download is None:
        raise Http404
    return serve_download(request, download)


@for_owners
@require_safe
def composition_examples(request: OwnerRequest, composition_id: UUID, role: str) -> HttpResponse:
    answer = examples_file(get_own_composition(request.owner, composition_id), role)
    if answer is None:
        raise Http404
    return answer
