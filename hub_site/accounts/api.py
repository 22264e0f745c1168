"""Who a program acts as."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import permissions, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.accounts.models import ApiToken
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.common.api_errors import ErrorSerializer


class WhoamiSerializer(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    scope = serializers.ChoiceField(choices=ApiToken.Scope.choices, help_text="What this token may do.")
    namespaces = serializers.ListField(child=serializers.CharField(), help_text="Where you may publish.")


class WhoamiApi(APIView):
    permission_classes = [permissions.IsAuthenticated]

    @extend_schema(
        operation_id="whoami",
        summary="Whose token this is",
        tags=["account"],
        responses={200: WhoamiSerializer, 401: ErrorSerializer},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        token = request.auth
        scope = token.scope if isinstance(token, ApiToken) else ApiToken.Scope.WRITE
        namespaces = [namespace.name for namespace in namespaces_writable_by(request.user)]
        return Response({"name": request.user.username, "scope": scope, "namespaces": namespaces})
