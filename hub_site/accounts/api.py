"""Who a program acts as."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import permissions, serializers
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.accounts.models import ApiToken
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.audit.models import AuditEntry
from hub_site.audit.selectors import history_lines, history_of_account
from hub_site.common.api_errors import ErrorSerializer


class WhoamiSerializer(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    scope = serializers.ChoiceField(choices=ApiToken.Scope.choices, help_text="What this token may do.")
    limited_to = serializers.CharField(
        help_text="“owner” or “owner/name”: for anything else the token is ignored. Empty for all."
    )
    namespaces = serializers.ListField(child=serializers.CharField(), help_text="Where you may publish.")


class HistoryLineSerializer(serializers.Serializer[Any]):
    """One thing that was done."""

    at = serializers.DateTimeField()
    who = serializers.CharField(help_text="An account, the site's staff, or the site itself.")
    action = serializers.CharField(help_text="Stable, such as “module.publish”.")
    words = serializers.CharField(help_text="The same for a person.")
    subject = serializers.CharField(help_text="What it was called then.")
    reason = serializers.CharField(help_text="That was given for it; mostly empty.")


class HistoryPageSerializer(serializers.Serializer[Any]):
    """A page of a history, newest first."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = HistoryLineSerializer(many=True)


class HistoryPagination(PageNumberPagination):
    page_size = 50


PAGE_PARAMETERS = (OpenApiParameter("page", int, description="From 1."),)


def history_page(view: APIView, request: Request, entries: QuerySet[AuditEntry]) -> Response:
    pages = HistoryPagination()
    found = pages.paginate_queryset(entries, request, view=view) or []
    return pages.get_paginated_response(HistoryLineSerializer(history_lines(found), many=True).data)


class AccountHistoryApi(APIView):
    permission_classes = [permissions.IsAuthenticated]

    @extend_schema(
        operation_id="account_history",
        summary="List your account's history",
        tags=["account"],
        parameters=[*PAGE_PARAMETERS],
        responses={200: HistoryPageSerializer, 401: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        return history_page(self, request, history_of_account(request.user))


class WhoamiApi(APIView):
    permission_classes = [permissions.IsAuthenticated]
    methods_of_limited_tokens = ("GET", "HEAD")

    @extend_schema(
        operation_id="whoami",
        summary="Read whose token this is",
        tags=["account"],
        responses={200: WhoamiSerializer, 401: ErrorSerializer},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        token = request.auth if isinstance(request.auth, ApiToken) else ApiToken(scope=ApiToken.Scope.WRITE)
        namespaces = [
            namespace.name
            for namespace in namespaces_writable_by(request.user)
            if token.covers(namespace.name)
        ]
        answer = {"scope": token.scope, "limited_to": token.limited_to, "namespaces": namespaces}
        return Response({"name": request.user.username, **answer})
