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
    limited_to = serializers.CharField(
        help_text="“owner” or “owner/name”: for everything else this token counts as none. Empty: for all."
    )
    namespaces = serializers.ListField(child=serializers.CharField(), help_text="Where you may publish.")


class WhoamiApi(APIView):
    permission_classes = [permissions.IsAuthenticated]
    methods_of_limited_tokens = ("GET", "HEAD")

    @extend_schema(
        operation_id="whoami",
        summary="Whose token this is",
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
