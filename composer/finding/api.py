"""Find modules by examples, under /api/v1/: the same services as the pages."""

from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from composer.access import VisitorsToo
from composer.finding import selectors
from composer.finding.serializers import ExampleSearchSerializer, FindSerializer
from composer.finding.services import example_search_ask
from composer.playground.requester import requester_by_address
from hub_site.accounts.authentication import TokenScope
from hub_site.common.api_errors import refusals


class FindApi(APIView):
    permission_classes = [VisitorsToo, TokenScope]

    @extend_schema(
        operation_id="find_create",
        summary="Find modules by examples",
        tags=["find"],
        request=FindSerializer,
        responses={202: ExampleSearchSerializer, **refusals(400, 401, 403, 409, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        """Measure modules alone on your examples, the most promising by their words first.

        202 with the modules in their order by words; look at the Location until is_finished, and they are in
        the order of their losses. Without an account: on the demo base, and read from the same address.
        """
        asked = FindSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        requester = requester_by_address(request)
        search = example_search_ask(requester=requester, **asked.validated_data)
        search.refresh_from_db()
        headers = {"Location": f"/api/v1/find/{search.pk}", **selectors.searches_quota(requester).headers}
        body = ExampleSearchSerializer(search).data
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)


class SearchApi(APIView):
    permission_classes = [VisitorsToo, TokenScope]

    @extend_schema(
        operation_id="find_retrieve",
        summary="Read the modules found by examples",
        tags=["find"],
        responses={200: ExampleSearchSerializer, **refusals(401, 404)},
    )
    def get(self, request: Request, search_id: UUID) -> Response:
        """A search of yours, with what is measured so far."""
        search = selectors.search_of(requester_by_address(request), search_id)
        if search is None:
            raise Http404
        return Response(ExampleSearchSerializer(search).data)
