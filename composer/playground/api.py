"""Try-outs under /api/v1/: ask, and look for the answer. The same services as the pages."""

from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer.access import VisitorsToo
from composer.playground import selectors
from composer.playground.requester import requester_by_address
from composer.playground.selectors import Target
from composer.playground.serializers import QuestionSerializer, TryOutSerializer
from composer.playground.services import tryout_ask, tryout_wait, tryout_watch
from hub_site.accounts.authentication import TokenScope
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals
from modules_registry.selectors import MAIN

WAIT_S = 2.0  # for an answer that comes quickly
ASKED = {
    200: TryOutSerializer,
    202: TryOutSerializer,
    **refusals(400, 401, 403, 404, 409, 422, 429, 503),
}
REVISION = OpenApiParameter(
    "revision", str, description="“main” (default), a commit id, or a version as “v2”."
)


class TryingApi(APIView):
    """For visitors too, as the pages are, with the same limits."""

    permission_classes = [VisitorsToo, TokenScope]

    def ask(self, request: Request, target: Target | None) -> Response:
        """200 with the answer when it comes within two seconds, else 202 with the address to look at."""
        if target is None:
            raise Http404
        question = QuestionSerializer(data=request.data)
        question.is_valid(raise_exception=True)
        requester = requester_by_address(request)
        tryout = tryout_ask(requester=requester, target=target, **question.validated_data)
        tryout_wait(tryout, seconds=WAIT_S)
        code = status.HTTP_200_OK if tryout.is_finished else status.HTTP_202_ACCEPTED
        headers = {"Location": f"/api/v1/tryouts/{tryout.pk}", **selectors.tries_quota(requester).headers}
        return Response(TryOutSerializer(tryout).data, status=code, headers=headers)


class ModuleTryApi(TryingApi):
    @extend_schema(
        operation_id="modules_try",
        summary="Try a module",
        tags=["try it"],
        request=QuestionSerializer,
        parameters=[REVISION],
        responses=ASKED,
    )
    def post(self, request: Request, namespace: str, name: str) -> Response:
        """Answer a prompt with the module and, beside it, by its base alone. Both greedily.

        200 with the answers when they come within two seconds; else 202, and the Location to look at:
        look every few seconds, or the question is dropped. 503 with Retry-After: too many ask at once.
        """
        revision = request.query_params.get("revision", MAIN)
        return self.ask(request, selectors.target_module(namespace, name, request.user, revision))


class CompositionTryApi(TryingApi):
    permission_classes = [IsAuthenticated, TokenScope]

    @extend_schema(
        operation_id="compositions_try",
        summary="Try a composition",
        tags=["try it"],
        request=QuestionSerializer,
        responses=ASKED,
    )
    def post(self, request: SignedInApiRequest, composition_id: UUID) -> Response:
        """As for a module: answer a prompt with your composition's adapter and by its base alone."""
        return self.ask(request, selectors.target_composition(request.user, composition_id))


class TryOutApi(TryingApi):
    @extend_schema(
        operation_id="tryouts_retrieve",
        summary="Read an answer",
        tags=["try it"],
        responses={200: TryOutSerializer, **refusals(401, 404)},
    )
    def get(self, request: Request, tryout_id: UUID) -> Response:
        """A question of yours and its answers. Ask again until is_finished."""
        tryout = selectors.tryout_of(requester_by_address(request), tryout_id)
        if tryout is None:
            raise Http404
        tryout_watch(tryout)
        return Response(TryOutSerializer(tryout).data)
