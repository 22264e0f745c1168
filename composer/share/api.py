"""Private links under /api/v1/: the owner's side, and what a reader with a link may have."""

from functools import partial
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer.access import OwnerApi
from composer.models import ShareLink
from composer.report.adapter_zip import adapter_shared, baseline_shared
from composer.report.api import (
    BASELINE_KEY,
    FILE_NAME,
    FILE_RESPONSES,
    PREDICTION_PARAMETERS,
    predictions_page,
    require_adapter,
    require_file_name,
)
from composer.report.exports import file_response
from composer.report.serializers import PredictionPageSerializer
from composer.share.example import example_link
from composer.share.services import (
    DAYS_MAX,
    redacted_report,
    share_find,
    share_of,
    share_renew,
    share_withdraw,
    shared_text,
)
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import downloads, refusals
from hub_site.common.api_inputs import InputSerializer
from hub_site.common.compression import never_compress
from hub_site.common.downloads import serve_download
from hub_site.common.errors import Refusal
from modules_registry.views import site_of


class ShareSerializer(serializers.Serializer[dict[str, Any]]):
    """A private link: whoever has its address may read the report and download the adapter."""

    url = serializers.URLField(help_text="The page. Keep it as secret as what it shows.")
    api_url = serializers.URLField(help_text="The same for programs.")
    shows_answers = serializers.BooleanField()
    made_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Null: no expiry.")


class ShareRequestSerializer(InputSerializer):
    shows_answers = serializers.BooleanField(
        required=False, default=True, help_text="The held-out examples, with what was answered."
    )
    days = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=DAYS_MAX,
        help_text="When it expires. Left out: never.",
    )


def describe_link(request: Request, link: ShareLink) -> dict[str, Any]:
    site = site_of(request._request)
    return ShareSerializer(
        {
            "url": f"{site}{link.get_absolute_url()}",
            "api_url": f"{site}/api/v1/shared/{link.token}",
            "shows_answers": link.shows_answers,
            "made_at": link.made_at,
            "expires_at": link.expires_at,
        }
    ).data


class ShareApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_share_retrieve",
        summary="Read the private link",
        tags=["sharing"],
        responses={200: ShareSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """The link as it stands; 404 when there is none."""
        link = share_of(self.own(request, composition_id))
        if link is None:
            raise Refusal("not_shared", "There is no private link to it.", status=404)
        response = Response(describe_link(request, link))
        never_compress(response)
        return response

    @extend_schema(
        operation_id="compositions_share_create",
        summary="Create or replace the private link",
        tags=["sharing"],
        request=ShareRequestSerializer,
        responses={201: ShareSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def post(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """A new link to the finished report. The one before it, if any, leads nowhere from now on."""
        self.own(request, composition_id)
        serializer = ShareRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        link = share_renew(owner=request.user, composition_id=composition_id, **serializer.validated_data)
        return Response(describe_link(request, link), status=status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="compositions_share_delete",
        summary="Revoke the private link",
        tags=["sharing"],
        responses={204: None, **refusals(401, 403, 404)},
    )
    def delete(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """It leads nowhere any more. Harmless when there is none."""
        share_withdraw(owner=request.user, composition_id=composition_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ExampleApi(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="example_retrieve",
        summary="Read the example report",
        tags=["sharing"],
        responses={200: ShareSerializer, **refusals(404)},
    )
    def get(self, request: Request) -> Response:
        """The link to a report that the site made itself for a ready-made task; 404 while there is none."""
        link = example_link()
        if link is None:
            raise Refusal("no_example", "There is no example report, or not yet.", status=404)
        return Response(describe_link(request, link))


class SharedSerializer(serializers.Serializer[dict[str, Any]]):
    """A shared report. Modules that are not public go by a number in it."""

    name = serializers.CharField()
    sentence = serializers.CharField()
    base = serializers.CharField()
    report = serializers.DictField(help_text="As docs/core/report.md describes it.")


class LinkApi(APIView):
    """Whoever has the link; it is kept by nobody on the way."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    def link(self, token: str) -> ShareLink:
        link = share_find(token)
        if link is None:
            raise Http404
        return link

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response["X-Robots-Tag"] = "noindex, nofollow"
        never_compress(response)
        return super().finalize_response(request, response, *args, **kwargs)


class SharedApi(LinkApi):
    @extend_schema(
        operation_id="shared_retrieve",
        summary="Read a shared report",
        tags=["sharing"],
        responses={200: SharedSerializer, **refusals(404)},
    )
    def get(self, request: Request, token: str) -> Response:
        """The report behind a private link, without anything private to its owner or to others."""
        link = self.link(token)
        composition = link.composition
        body = {
            "name": composition.name,
            "sentence": composition.sentence,
            "base": composition.base.name,
            "report": redacted_report(link),
        }
        return Response(SharedSerializer(body).data)


class SharedAdapterApi(LinkApi):
    @extend_schema(
        operation_id="shared_adapter",
        summary="Download a shared adapter",
        tags=["sharing"],
        responses=downloads("application/zip", 404, 409),
    )
    def get(self, request: Request, token: str) -> HttpResponseBase:
        """The adapter as a zip of one folder: adapter_config.json, the weights, README.md, report.json."""
        link = self.link(token)
        return serve_download(request._request, adapter_shared(link.composition, partial(shared_text, link)))


class SharedBaselineAdapterApi(LinkApi):
    @extend_schema(
        operation_id="shared_baseline_adapter",
        summary="Download a baseline's adapter of a shared report",
        tags=["sharing"],
        parameters=[BASELINE_KEY],
        responses=downloads("application/zip", 404, 409),
    )
    def get(self, request: Request, token: str, key: str) -> HttpResponseBase:
        """The LoRA trained on the examples, or the tuned composition, as a zip of one folder."""
        link = self.link(token)
        download = baseline_shared(link.composition, key, partial(shared_text, link))
        return serve_download(request._request, require_adapter(download))


class SharedPredictionsApi(LinkApi):
    @extend_schema(
        operation_id="shared_predictions",
        summary="Read a shared report's answers",
        tags=["sharing"],
        parameters=PREDICTION_PARAMETERS,
        responses={200: PredictionPageSerializer, **refusals(400, 404)},
    )
    def get(self, request: Request, token: str) -> Response:
        """Answers side by side, a page of them; none where the owner keeps them back."""
        return predictions_page(self, request, redacted_report(self.link(token)))


class SharedFileApi(LinkApi):
    @extend_schema(
        operation_id="shared_file",
        summary="Download a shared report",
        tags=["sharing"],
        parameters=[FILE_NAME],
        responses=FILE_RESPONSES,
    )
    def get(self, request: Request, token: str, name: str) -> HttpResponse:
        """report.json, report.md, comparison.csv, modules.csv or predictions.csv."""
        link = self.link(token)
        return file_response(link.composition, redacted_report(link), require_file_name(name))
