"""Imports under /api/v1/: ask, follow, cancel, try again. The same services as the pages."""

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import ErrorSerializer
from modules_registry.api import (
    NOT_FOUND,
    REFUSED,
    namespace_asked,
    validate,
)
from modules_registry.importing import selectors
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.serializers import (
    ImportDetailSerializer,
    ImportInput,
    ImportPageSerializer,
    ImportSerializer,
)
from modules_registry.importing.services import import_again, import_cancel, import_request

READ = {200: ImportDetailSerializer, 401: ErrorSerializer, **NOT_FOUND}


PAGE_SIZE_MAX = 100


class ImportPagination(PageNumberPagination):
    page_size = 24
    page_size_query_param = "page_size"
    max_page_size = PAGE_SIZE_MAX


class ImportOwnerApi(APIView):
    """What is private to its owner: nobody else's exists."""

    permission_classes = [IsAuthenticated, TokenScope]


class ImportsApi(ImportOwnerApi):
    @extend_schema(
        operation_id="imports_list",
        summary="List your imports",
        tags=["imports"],
        parameters=[
            OpenApiParameter("page", int, description="From 1."),
            OpenApiParameter("page_size", int, description=f"24 unless told, at most {PAGE_SIZE_MAX}."),
        ],
        responses={200: ImportPageSerializer, 401: ErrorSerializer, **NOT_FOUND},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Your imports, newest first."""
        pages = ImportPagination()
        rows: Any = pages.paginate_queryset(selectors.imports_of(request.user), request, view=self)
        listed = ImportSerializer(rows, many=True, context={"request": request})
        return pages.get_paginated_response(listed.data)

    @extend_schema(
        operation_id="imports_create",
        summary="Import modules from the Hub",
        tags=["imports"],
        request=ImportInput,
        responses={202: ImportDetailSerializer, 429: ErrorSerializer, **REFUSED},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Ask for repositories, or for all of an owner's. It runs in the background: read it again."""
        asked = validate(ImportInput, request)
        namespace = namespace_asked(request.user, asked.pop("namespace", ""))
        job = import_request(owner=request.user, namespace=namespace, **asked)
        left = selectors.import_quota(request.user).headers
        return Response(detail(request, job.pk), status=status.HTTP_202_ACCEPTED, headers=left)


class ImportApi(ImportOwnerApi):
    @extend_schema(
        operation_id="imports_retrieve", summary="Read an import", tags=["imports"], responses=READ
    )
    def get(self, request: SignedInApiRequest, import_id: UUID) -> Response:
        """One import, with what became of each repository."""
        return Response(detail(request, import_id))


class ImportCancelApi(ImportOwnerApi):
    @extend_schema(
        operation_id="imports_cancel",
        summary="Cancel an import",
        tags=["imports"],
        request=None,
        responses={202: ImportDetailSerializer, 401: ErrorSerializer, 403: ErrorSerializer, **NOT_FOUND},
    )
    def post(self, request: SignedInApiRequest, import_id: UUID) -> Response:
        """Ask for the end of it. What came in stays; a finished import stays as it is."""
        import_cancel(owner=request.user, import_id=import_id)
        return Response(detail(request, import_id), status=status.HTTP_202_ACCEPTED)


class ImportAgainApi(ImportOwnerApi):
    @extend_schema(
        operation_id="imports_again",
        summary="Retry an import",
        tags=["imports"],
        request=None,
        responses={
            202: ImportDetailSerializer, 409: ErrorSerializer, 429: ErrorSerializer, **REFUSED, **NOT_FOUND,
        },
    )  # fmt: skip
    def post(self, request: SignedInApiRequest, import_id: UUID) -> Response:
        """A new import of what a finished one refused or did not come to."""
        job = import_again(owner=request.user, import_id=import_id)
        left = selectors.import_quota(request.user).headers
        return Response(detail(request, job.pk), status=status.HTTP_202_ACCEPTED, headers=left)


def detail(request: SignedInApiRequest, import_id: UUID) -> dict[str, Any]:
    job: ModuleImport | None = selectors.import_find(request.user, import_id)
    if job is None:
        raise Http404
    return dict(ImportDetailSerializer(job, context={"request": request}).data)
