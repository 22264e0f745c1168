"""Find modules by examples, under /api/v1/: the same services as the pages."""

from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from composer.access import OwnerApi
from composer.finding import selectors
from composer.finding.serializers import ExampleSearchSerializer, FindSerializer
from composer.finding.services import example_search_ask
from composer.playground.selectors import Requester
from hub_site.accounts.requests import SignedInApiRequest
from hub_site.common.api_errors import refusals


class FindApi(OwnerApi):
    @extend_schema(
        operation_id="find_create",
        summary="Find modules by examples",
        tags=["find"],
        request=FindSerializer,
        responses={202: ExampleSearchSerializer, **refusals(400, 401, 403, 409, 429, 503)},
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Measure modules alone on your examples, the most promising by their words first.

        202 with the modules in their order by words; look at the Location until is_finished, and they are in
        the order of their losses.
        """
        asked = FindSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        requester = Requester(request.user)
        search = example_search_ask(requester=requester, **asked.validated_data)
        search.refresh_from_db()
        headers = {"Location": f"/api/v1/find/{search.pk}", **selectors.searches_quota(requester).headers}
        body = ExampleSearchSerializer(search).data
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)


class SearchApi(OwnerApi):
    @extend_schema(
        operation_id="find_retrieve",
        summary="Read the modules found by examples",
        tags=["find"],
        responses={200: ExampleSearchSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest, search_id: UUID) -> Response:
        """A search of yours, with what is measured so far."""
        search = selectors.search_of(Requester(request.user), search_id)
        if search is None:
            raise Http404
        return Response(ExampleSearchSerializer(search).data)
