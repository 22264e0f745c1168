"""What a client may send under /api/v1/: a key or a query parameter that nothing reads is refused.

A misspelled name would else be ignored, and its default would be taken in silence.
"""

from collections.abc import Callable, Iterable, Mapping, Sized
from functools import cache
from itertools import islice
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.views import APIView

from hub_site.common.api_errors import error_body

PREFIX = "/api/v1/"
FAULTS_MAX = 5  # of one list or object told of in one answer


class InputSerializer(serializers.Serializer[Any]):
    """A request's body. Keys that it does not know are refused, beside whatever else is wrong."""

    def to_internal_value(self, data: Any) -> Any:
        known = {name: None for name, field in self.fields.items() if not field.read_only}
        unknown = [str(name) for name in data if name not in known] if isinstance(data, Mapping) else []
        errors: Any = {name: [sentence(name, "key", known)] for name in unknown[:FAULTS_MAX]}
        if len(unknown) > FAULTS_MAX:
            errors["body"] = [f"There are {len(unknown) - FAULTS_MAX:,} more unknown keys."]
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


class OneOfField(serializers.ChoiceField):
    """One of some values; a refusal of any other names them."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        super().__init__(choices, **kwargs)
        known = ", ".join(str(value) for value in self.choices)
        self.error_messages["invalid_choice"] += f" Known: {known}."


class BoundedListField(serializers.ListField):
    """A list with a cap, which is looked at before any item; of many wrong items the first few are told."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, **kwargs)
        self.length_max = max_length

    def run_child_validation(self, data: Any) -> list[Any]:
        require_length(data, self.length_max, "items")
        return list(validated(enumerate(data), self.child).values())


class BoundedDictField(serializers.DictField):
    """An object with a cap of its keys, which is looked at before any value; as BoundedListField."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_max = max_length

    def run_child_validation(self, data: Any) -> dict[str, Any]:
        require_length(data, self.length_max, "keys")
        return validated(data.items(), self.child)


def validated(values: Iterable[tuple[Any, Any]], child: Any) -> dict[Any, Any]:
    """The values as the field `child` reads them, by index or key; of many faults the first few are told."""
    read, faults = {}, {}
    for key, value in values:
        try:
            read[key] = child.run_validation(value)
        except serializers.ValidationError as error:
            faults[key] = error.detail
            if len(faults) == FAULTS_MAX:
                break
    if faults:
        raise serializers.ValidationError(faults)
    return read


def require_length(data: Sized, length_max: int, what: str) -> None:
    if len(data) > length_max:
        raise serializers.ValidationError(
            f"These are {len(data):,} {what}; at most {length_max:,} can be sent."
        )


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
        names = islice((name for name in request.GET if name not in known), FAULTS_MAX)
        unknown = {name: [sentence(name, "parameter", known)] for name in names}
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
