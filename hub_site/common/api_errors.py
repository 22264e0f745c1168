"""The one shape of every error under /api/v1/: {"error": {"code", "message", "fields"?}}."""

from itertools import islice
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from rest_framework import exceptions, serializers
from rest_framework.response import Response
from rest_framework.views import exception_handler, set_rollback

from hub_site.common.errors import Refusal

FIELDS_MAX = 12  # named in one answer; a wrong request gets no answer larger than 10 KB
NAME_CHARACTERS_MAX, FAULT_CHARACTERS_MAX, MESSAGE_CHARACTERS_MAX = (
    80,
    500,
    2000,
)  # they may quote what was sent
HOW_TO_SIGN_IN = "Send “Authorization: Bearer lh_…”. Create a token under /settings/tokens/."


class ErrorDetailSerializer(serializers.Serializer[dict[str, Any]]):
    code = serializers.CharField(help_text="Stable and snake_case: branch on this.")
    message = serializers.CharField(help_text="One or two sentences for a person.")
    fields = serializers.DictField(  # type: ignore[assignment]  # a key of ours; DRF takes it for a field
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Messages by field, where the fault lies in one.",
    )


class ErrorSerializer(serializers.Serializer[dict[str, Any]]):
    """The body of every answer that is not a success."""

    error = ErrorDetailSerializer()


def refusals(*statuses: int) -> dict[int, type[ErrorSerializer]]:
    """For an operation's description: the statuses that it refuses with, all in the one shape."""
    return dict.fromkeys(statuses, ErrorSerializer)


def downloads(media_type: str, *statuses: int) -> dict[Any, Any]:
    """For a download's description: whole, a range of it, unchanged, and what it refuses with."""
    bodies = {(status, media_type): OpenApiTypes.BINARY for status in (200, 206)}
    return {**bodies, 304: None, **refusals(*statuses, 416)}


def error_body(code: str, message: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """The body of an error. Of many fields the first FIELDS_MAX are named, and long texts are cut."""
    error: dict[str, Any] = {"code": code, "message": clipped(message, MESSAGE_CHARACTERS_MAX)}
    if fields:
        error["fields"] = {
            clipped(name, NAME_CHARACTERS_MAX): [clipped(text, FAULT_CHARACTERS_MAX) for text in messages]
            for name, messages in islice(fields.items(), FIELDS_MAX)
        }
    return {"error": error}


def clipped(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def answer_error(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: our refusals, Django's and DRF's own errors, all in one shape."""
    if isinstance(exception, Refusal):
        set_rollback()
        body = error_body(exception.code, exception.message, exception.fields)
        return Response(body, status=exception.status, headers=exception.headers)
    if isinstance(exception, Http404):
        exception = exceptions.NotFound("Not found, or not visible to you.")
    elif isinstance(exception, PermissionDenied):
        exception = exceptions.PermissionDenied()
    response = exception_handler(exception, context)
    if response is None or not isinstance(exception, exceptions.APIException):
        return response
    response.data = error_body(*describe(exception))
    return response


def describe(exception: exceptions.APIException) -> tuple[str, str, dict[str, list[str]] | None]:
    if isinstance(exception, exceptions.ValidationError):
        fields = field_messages(exception.detail)
        return "invalid", first_message(fields), fields
    if isinstance(exception, exceptions.NotAuthenticated):
        return str(exception.default_code), HOW_TO_SIGN_IN, None
    return str(exception.default_code), str(exception.detail), None


def first_message(fields: dict[str, list[str]]) -> str:
    """The first thing that is wrong, and where: “name: This field is required.”"""
    name, messages = next(iter(fields.items()))
    return messages[0] if name in ("body", "non_field_errors") else f"{name}: {messages[0]}"


def field_messages(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Flatten DRF's nested detail to {"examples.3.input": ["…"]}."""
    if isinstance(detail, dict):
        flat: dict[str, list[str]] = {}
        for name, inner in detail.items():
            # What is wrong with a part as a whole stands at the part's own address.
            place = prefix if prefix and name == "non_field_errors" else f"{prefix}{name}."
            flat |= field_messages(inner, place)
        return flat
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return field_messages({str(index): item for index, item in enumerate(detail) if item}, prefix)
    messages = detail if isinstance(detail, list) else [detail]
    return {prefix.rstrip(".") or "body": [str(message) for message in messages]}


@csrf_exempt  # nothing is done here, and a form's page of errors is no answer to a program
def api_not_found(request: HttpRequest, path: str = "") -> JsonResponse:
    """Answer any unknown address under /api/v1/ in the API's own shape."""
    body = error_body("not_found", "No such address in this API. See /api/docs/ for the ones there are.")
    return JsonResponse(body, status=404)
