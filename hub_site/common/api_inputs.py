"""What a client may send under /api/v1/: a key or a query parameter that nothing reads is refused.

A misspelled name would else be ignored, and its default would be taken in silence.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.views import APIView

from hub_site.common.api_errors import error_body

PREFIX = "/api/v1/"


class InputSerializer(serializers.Serializer[Any]):
    """A request's body. Keys that it does not know are refused, beside whatever else is wrong."""

    def to_internal_value(self, data: Any) -> Any:
        known = [name for name, field in self.fields.items() if not field.read_only]
        unknown = [str(name) for name in data if name not in known] if isinstance(data, Mapping) else []
        errors: Any = {name: [sentence(name, "key", known)] for name in unknown}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if not errors:
                raise
            found: Any = error.detail
            raise serializers.ValidationError({**errors, **found}) from error
        if errors:
            raise serializers.ValidationError(errors)
        return value


class KnownParametersMiddleware:
    """Refuses query parameters that the description of an operation does not name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: object, kwargs: object
    ) -> HttpResponse | None:
        view_class = getattr(view, "cls", None)
        if view_class is None or not request.path.startswith(PREFIX):
            return None
        known = known_parameters(view_class, str(request.method).lower().replace("head", "get"))
        unknown = {name: [sentence(name, "parameter", known)] for name in request.GET if name not in known}
        if not unknown:
            return None
        message = next(iter(unknown.values()))[0]
        return JsonResponse(error_body("unknown_parameter", message, unknown), status=400)


@cache
def known_parameters(view_class: type[APIView], method: str) -> tuple[str, ...]:
    """The query parameters in the description of a view's method, as `extend_schema` has them."""
    described = getattr(getattr(view_class, method, None), "kwargs", {}).get("schema")
    if described is None:
        return ()
    view: Any = view_class()
    view.request, view.kwargs = None, {}
    schema = described()
    schema.view = view
    return tuple(name for parameter in schema.get_override_parameters() for name in names_of(parameter))


def names_of(parameter: Any) -> Iterable[str]:
    """The names of one described parameter, or of a serializer that describes several."""
    if isinstance(parameter, OpenApiParameter):
        return [parameter.name] if parameter.location == OpenApiParameter.QUERY else []
    return list(parameter().fields)


def sentence(name: str, kind: str, known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f"There is no {kind} “{name[:80]}” here. " + (f"Known: {names}." if names else "None is known.")
