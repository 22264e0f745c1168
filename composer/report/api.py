"""The finished composition under /api/v1/: adapter, summary, predictions, report files."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer import selectors
from composer.access import OwnerApi
from composer.core.spec.adapter_size import size_text
from composer.core.spec.choices import KEPT_ADAPTERS
from composer.models import Composition, Example
from composer.report.adapter_zip import adapter_download, baseline_download
from composer.report.exports import FILES, examples_file, file_response
from composer.report.next_steps import next_steps
from composer.report.page import (
    SHOWN,
    command,
    comparison_rows,
    comparison_text,
    modules_text,
    predictions_kept,
)
from composer.report.serializers import PredictionPageSerializer, SummarySerializer
from composer.report.snippets import own_snippets
from composer.report.verdict import verdict_view
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import downloads, refusals
from hub_site.common.downloads import Download, serve_download
from hub_site.common.errors import Refusal

PAGE_SIZE_MAX = 100


PREDICTION_PARAMETERS = [
    OpenApiParameter("show", str, enum=list(SHOWN), description="Which of them; “all” unless told."),
    OpenApiParameter("page", int, description="From 1."),
    OpenApiParameter("page_size", int, description=f"24 unless told, at most {PAGE_SIZE_MAX}."),
]


FILE_NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, enum=list(FILES))


BASELINE_KEY = OpenApiParameter("key", str, OpenApiParameter.PATH, enum=list(KEPT_ADAPTERS))


FILE_RESPONSES: dict[Any, Any] = {
    (200, "application/json"): OpenApiTypes.BINARY,
    (200, "text/markdown"): OpenApiTypes.BINARY,
    (200, "text/csv"): OpenApiTypes.BINARY,
    **refusals(404),
}


class CompositionPagination(PageNumberPagination):
    page_size = 24
    page_size_query_param = "page_size"
    max_page_size = PAGE_SIZE_MAX


class AdapterApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_adapter",
        summary="Download the adapter",
        tags=["compositions"],
        responses=downloads("application/zip", 401, 404, 409),
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> HttpResponseBase:
        """The adapter as a zip of one folder: adapter_config.json, the weights, README.md, report.json.

        It can be had before the comparisons end, then without the report.
        """
        composition = self.own(request, composition_id)
        if not composition.has_adapter:
            raise Refusal("not_done", "There is no adapter, or not yet.", status=409)
        return serve_download(request._request, adapter_download(composition))


class BaselineAdapterApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_baseline_adapter",
        summary="Download the adapter of a baseline",
        tags=["compositions"],
        parameters=[BASELINE_KEY],
        responses=downloads("application/zip", 401, 404, 409),
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID, key: str) -> HttpResponseBase:
        """The LoRA trained on the examples, or the tuned composition, as a zip of one folder.

        404 where there is none: not every report has both, and earlier ones have neither.
        """
        download = baseline_download(self.own_done(request, composition_id), key)
        return serve_download(request._request, require_adapter(download))


def require_adapter(download: Download | None) -> Download:
    if download is None:
        raise Refusal("no_adapter", "This report has no such adapter.", status=404)
    return download


class SummaryApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_summary",
        summary="Read the report in words",
        tags=["compositions"],
        responses={200: SummarySerializer, **refusals(401, 404, 409)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """The verdict with its figures and the next action, how to use the adapter, how to make it again."""
        composition = self.own_done(request, composition_id)
        report, site = composition.report or {}, request.build_absolute_uri("/").rstrip("/")
        words = {
            "verdict": verdict_view(report),
            **next_steps(report),
            "modules": modules_text(composition.selection, composition.modules.count()),
            "size": size_text(report),
            "race": comparison_text(comparison_rows(report["baselines"])),
            "command": command(composition, site),
            "private_modules": selectors.private_modules(composition),
            "snippets": own_snippets(composition, site),
        }
        return Response(SummarySerializer(words).data)


class PredictionsApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_predictions",
        summary="Read the answers side by side",
        tags=["compositions"],
        parameters=PREDICTION_PARAMETERS,
        responses={200: PredictionPageSerializer, **refusals(400, 401, 404, 409)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """Held-out examples with the base's answer and the composition's, changed ones first."""
        return predictions_page(self, request, self.own_done(request, composition_id).report or {})


def predictions_page(view: APIView, request: Request, report: dict[str, Any]) -> Response:
    kept = predictions_kept(report["predictions"])
    show = request.query_params.get("show", "all")
    if show not in kept:
        message = f"“show” is one of {', '.join(SHOWN)}."
        raise Refusal("bad_show", message, fields={"show": [message]})
    pages = CompositionPagination()
    rows = pages.paginate_queryset(kept[show], request, view=view)  # type: ignore[arg-type]
    return pages.get_paginated_response(rows)


class ReportFileApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_file",
        summary="Download the report",
        tags=["compositions"],
        parameters=[FILE_NAME],
        responses=FILE_RESPONSES | {**refusals(401, 409)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID, name: str) -> HttpResponse:
        """report.json, report.md, comparison.csv, modules.csv or predictions.csv.

        In a CSV an apostrophe stands before whatever a spreadsheet would take for a formula.
        """
        composition = self.own_done(request, composition_id)
        return file_response(composition, composition.report or {}, require_file_name(name))


NDJSON: dict[Any, Any] = {(200, "application/x-ndjson"): OpenApiTypes.BINARY, **refusals(401, 404)}


class ExamplesApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_examples",
        summary="Download the examples",
        tags=["compositions"],
        responses=NDJSON,
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> HttpResponse:
        """examples.jsonl: a line for each, with “input” and “output”, as the command line reads them."""
        return examples_or_404(self.own(request, composition_id), Example.Role.SHOT)


class HeldOutApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_held_out",
        summary="Download the held-out examples",
        tags=["compositions"],
        responses=NDJSON,
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> HttpResponse:
        """held_out.jsonl, the same way; 404 where none was given."""
        return examples_or_404(self.own(request, composition_id), Example.Role.HELD_OUT)


def examples_or_404(composition: Composition, role: str) -> HttpResponse:
    answer = examples_file(composition, role)
    if answer is None:
        raise Http404
    return answer


def require_file_name(name: str) -> str:
    if name not in FILES:
        raise Http404
    return name
