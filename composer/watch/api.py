"""Following a composition under /api/v1/: its events one answer at a time or as a stream, and its mail."""

import json
from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from composer.access import OwnerApi
from composer.serializers import CompositionDetailSerializer, detail
from composer.services import composition_notify
from composer.watch import selectors
from composer.watch.serializers import LAST_EVENT_ID, EventsSerializer, MailWishSerializer, parse_after
from composer.watch.stream import event_stream
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals

AFTER = OpenApiParameter("after", OpenApiTypes.INT, description="Only events with a higher number.")


class EventsApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_events",
        summary="Follow a composition",
        tags=["compositions"],
        parameters=[AFTER],
        responses={200: EventsSerializer, **refusals(400, 401, 404)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """What happened since event number `after`, in order; ask again until is_finished."""
        composition = self.own(request, composition_id)
        return Response(
            EventsSerializer(selectors.events_since(composition, parse_after(request.query_params))).data
        )


class EventStream(BaseRenderer):
    """What a client of server-sent events asks for; a refusal comes as JSON all the same."""

    media_type = "text/event-stream"
    format = "event-stream"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return json.dumps(data).encode()


class StreamApi(OwnerApi):
    renderer_classes = [JSONRenderer, EventStream]

    @extend_schema(
        operation_id="compositions_stream",
        summary="Follow a composition as it happens",
        tags=["compositions"],
        parameters=[
            AFTER,
            OpenApiParameter(
                LAST_EVENT_ID,
                OpenApiTypes.INT,
                OpenApiParameter.HEADER,
                description="As `after`, and before it: what a browser sends when it comes back.",
            ),
        ],
        responses={(200, "text/event-stream"): OpenApiTypes.STR, **refusals(400, 401, 404, 501, 503)},
    )
    def get(self, request: SignedInApiRequest, composition_id: UUID) -> HttpResponseBase:
        """Server-sent events. A message's `id` is the event's number, its `data` the event as JSON.

        A message of the type `standing` tells the status whenever it is another. The stream ends when the
        composition is finished, and every ten minutes: come back with the last id, and you miss nothing.
        """
        composition = self.own(request, composition_id)
        after_number = parse_after(request.query_params, request.headers)
        return event_stream(request._request, composition, after_number)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Say that a refusal is JSON, also to who asked for events."""
        if getattr(response, "exception", False):  # a stream of events is a plain response of Django
            response.content_type = JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


class MailApi(OwnerApi):
    @extend_schema(
        operation_id="compositions_mail",
        summary="Ask for a mail when it is done",
        tags=["compositions"],
        request=MailWishSerializer,
        responses={200: CompositionDetailSerializer, **refusals(400, 401, 403, 404, 409)},
    )
    def put(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """Send one mail with the verdict and a link when it is done or failed, or none."""
        serializer = MailWishSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        composition = composition_notify(
            owner=request.user, composition_id=composition_id, wanted=serializer.validated_data["wanted"]
        )
        return Response(detail(composition))
