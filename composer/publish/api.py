"""Publishing a composition under /api/v1/: the same service as the page."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from composer.access import OwnerApi
from composer.publish.services import composition_publish
from composer.request.serializers import require_storable
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals
from hub_site.common.api_inputs import InputSerializer
from modules_registry.api import detail as module_detail
from modules_registry.api import namespace_asked
from modules_registry.serializers import ModuleDetailSerializer


class PublishSerializer(InputSerializer):
    """What the module shall be called, and who sees it."""

    namespace = serializers.CharField(
        required=False, max_length=NAME_LENGTH_MAX, help_text="The owner. Default: your own name."
    )
    name = serializers.CharField(
        required=False, max_length=NAME_LENGTH_MAX, help_text="Default: made from the composition's name."
    )
    sentence = serializers.CharField(
        required=False, max_length=300, validators=[require_storable], help_text="Default: the composition's."
    )
    private = serializers.BooleanField(required=False, default=False, help_text="Nobody else sees it.")
    confirms_terms = serializers.BooleanField(
        required=False,
        default=False,
        help_text="You have read the terms of the parents whose license is not known here: they allow this.",
    )


class PublishApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_publish",
        summary="Publish a composition as a module",
        tags=["compositions"],
        request=PublishSerializer,
        responses={
            200: ModuleDetailSerializer,
            201: ModuleDetailSerializer,
            **refusals(400, 401, 403, 404, 409),
        },
    )
    def post(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """Make the adapter a module with its lineage and a card. Asked again: 200, and the same module."""
        composition = self.own(request, composition_id)
        serializer = PublishSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted: dict[str, Any] = {
            "name": composition.slug,
            "sentence": composition.sentence or composition.name,
            **serializer.validated_data,
        }
        namespace = namespace_asked(request.user, wanted.pop("namespace", ""))
        module, is_new = composition_publish(
            owner=request.user,
            composition_id=composition_id,
            namespace=namespace,
            site=request.build_absolute_uri("/").rstrip("/"),
            **wanted,
        )
        answered = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(module_detail(request, module), status=answered)
