"""The help, for programs: its pages and its search."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub_site.common.api_errors import refusals
from hub_site.common.errors import field_refusal
from hub_site.pages.help_pages import PAGES
from hub_site.pages.help_search import QUERY_CHARACTERS_MAX, find_in_help


class HelpResultSerializer(serializers.Serializer[Any]):
    """A page of the help, or a section of one."""

    page = serializers.CharField(help_text="The page's title.")
    title = serializers.CharField(help_text="The section's; empty: the page as a whole.")
    excerpt = serializers.CharField(help_text="A part of its text, with the words that were looked for.")
    url = serializers.URLField()


class HelpResultsSerializer(serializers.Serializer[Any]):
    """What was found, best first; without a query every page, in order."""

    results = HelpResultSerializer(many=True)


class HelpApi(APIView):
    @extend_schema(
        operation_id="help_search",
        summary="Search the help",
        tags=["help"],
        parameters=[OpenApiParameter("q", str, description="Words; left out: every page.")],
        responses={200: HelpResultsSerializer, **refusals(400)},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params.get("q", "")
        if len(query) > QUERY_CHARACTERS_MAX:
            raise field_refusal("too_long", "q", f"{QUERY_CHARACTERS_MAX} characters are the most.")
        return Response({"results": found_for(query) if query.strip() else every_page()})


def found_for(query: str) -> list[dict[str, str]]:
    return [
        {
            "page": found.place.page,
            "title": found.place.title,
            "excerpt": found.excerpt,
            "url": f"{settings.PUBLIC_ADDRESS}{found.place.url}",
        }
        for found in find_in_help(query)
    ]


def every_page() -> list[dict[str, str]]:
    return [
        {
            "page": page.title,
            "title": "",
            "excerpt": page.summary,
            "url": f"{settings.PUBLIC_ADDRESS}{page.get_absolute_url()}",
        }
        for page in PAGES.values()
    ]
