"""Compositions under /api/v1/: request, follow, cancel, download. The same services as the pages."""

from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from composer import selectors
from composer.access import OwnerApi
from composer.report.api import PAGE_SIZE_MAX, CompositionPagination
from composer.request.serializers import (
    CompositionRequestSerializer,
)
from composer.request.services import composition_request
from composer.serializers import (
    CompositionDetailSerializer,
    CompositionPageSerializer,
    CompositionSerializer,
    detail,
)
from composer.services import composition_cancel, composition_delete, composition_stop
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals
from hub_site.common.errors import Refusal
from hub_site.common.quotas import quota_headers

KEY_MAX = 80  # characters, as the column has it
KEY_HEADER = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=f"Up to {KEY_MAX} characters. The same key and body give the same composition.",
)


class CompositionsApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_list",
        summary="List your compositions",
        tags=["compositions"],
        parameters=[
            OpenApiParameter("page", int, description="From 1."),
            OpenApiParameter("page_size", int, description=f"24 unless told, at most {PAGE_SIZE_MAX}."),
        ],
        responses={200: CompositionPageSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Your compositions, newest first."""
        pages = CompositionPagination()
        rows = pages.paginate_queryset(selectors.compositions_of(request.user), request, view=self)
        return pages.get_paginated_response(CompositionSerializer(rows, many=True).data)

    @extend_schema(
        operation_id="compositions_create",
        summary="Compose",
        tags=["compositions"],
        request=CompositionRequestSerializer,
        parameters=[KEY_HEADER],
        responses={202: CompositionDetailSerializer, **refusals(400, 401, 403, 409, 422, 429, 507)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Ask for a composition. It runs in the background: follow it by its events."""
        serializer = CompositionRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        composition = composition_request(
            owner=request.user, idempotency_key=idempotency_key(request), **serializer.validated_data
        )
        left = quota_headers(selectors.work_quotas(request.user))
        headers = {"Location": f"/api/v1/compositions/{composition.pk}", **left}
        return Response(detail(composition), status=status.HTTP_202_ACCEPTED, headers=headers)


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= KEY_MAX and key.isprintable()):
        raise Refusal("bad_idempotency_key", f"An Idempotency-Key has 1 to {KEY_MAX} printable characters.")
    return key


class CompositionApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_retrieve",
        summary="Read a composition",
        tags=["compositions"],
        responses={200: CompositionDetailSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """One composition; with its report once it is done."""
        return Response(detail(self.own(request, composition_id)))

    @extend_schema(
        operation_id="compositions_delete",
        summary="Delete a composition",
        tags=["compositions"],
        responses={204: None, **refusals(401, 403, 404, 409)},
    )
    def delete(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """Forget a finished composition with its examples and its adapter."""
        composition_delete(owner=request.user, composition_id=composition_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class CancelApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_cancel",
        summary="Cancel a composition",
        tags=["compositions"],
        request=None,
        responses={202: CompositionDetailSerializer, **refusals(401, 403, 404)},
    )
    def post(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """Ask for the end of it. A running one ends within seconds; a finished one stays as it is."""
        composition = composition_cancel(owner=request.user, composition_id=composition_id)
        return Response(detail(composition), status=status.HTTP_202_ACCEPTED)


class StopApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_stop",
        summary="Stop and keep the best",
        tags=["compositions"],
        request=None,
        responses={202: CompositionDetailSerializer, **refusals(401, 403, 404, 409)},
    )
    def post(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """End a running search with the best it has found. The comparisons follow; then it is done."""
        composition = composition_stop(owner=request.user, composition_id=composition_id)
        return Response(detail(composition), status=status.HTTP_202_ACCEPTED)
