"""The API's documentation as pages: its OpenAPI description, arranged for a reader. They need no script."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.text import slugify
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

Json = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete")
JSON, FORM = "application/json", "multipart/form-data"
DEPTH_MAX = 4  # of fields inside fields
ENUM_SHOWN_MAX = 12
ERROR = "Error"  # the schema of every refusal; the page of topics says what it is
LIMITS = (  # keyword, how it is said
    ("minimum", "from {}"),
    ("maximum", "to {}"),
    ("maxLength", "at most {} characters"),
    ("maxItems", "at most {} items"),
)


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body; inside another one as “modules[].weight”."""

    name: str
    type: str  # "string", "array of integer"
    notes: tuple[str, ...]  # choices, bounds, the default
    help: str
    is_required: bool
    place: str = ""  # of a parameter: "path" or "query"


@dataclass(frozen=True)
class Body:
    """What is sent, or comes back."""

    media_types: tuple[str, ...]
    fields: tuple[Field, ...]
    example: str  # JSON, indented; empty: none


@dataclass(frozen=True)
class Answer:
    status: str
    phrase: str  # "Not Found"
    description: str
    body: Body | None  # of a success
    headers: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    id: str
    method: str  # "GET"
    path: str
    summary: str
    description: str
    who: str  # may ask
    parameters: tuple[Field, ...]
    body: Body | None
    answers: tuple[Answer, ...]
    command: str  # curl

    @property
    def successes(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status < "300"]

    @property
    def others(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status >= "300"]


@dataclass(frozen=True)
class Topic:
    """The operations on one kind of thing."""

    slug: str
    title: str
    operations: tuple[Operation, ...]


@require_safe
def api_docs(request: HttpRequest) -> HttpResponse:
    """What holds for all requests, and every operation by its topic."""
    return render(request, "pages/api_docs.html", {"topics": topics()})


@require_safe
def api_topic(request: HttpRequest, topic: str) -> HttpResponse:
    """The operations of one topic, each with what it takes and gives."""
    found = next((each for each in topics() if each.slug == topic), None)
    if found is None:
        raise Http404
    context = {"topic": found, "topics": topics(), "operations": operations_html(found)}
    return render(request, "pages/api_topic.html", context)


@lru_cache(maxsize=64)
def operations_html(topic: Topic) -> str:
    """The operations of a topic, rendered once for all readers."""
    return render_to_string("pages/_api_operations.html", {"operations": topic.operations})


@cache
def topics() -> tuple[Topic, ...]:
    """The API's description in parts; it does not change while the site runs."""
    return arranged(SchemaGenerator().get_schema(request=None, public=True))


def arranged(description: Json) -> tuple[Topic, ...]:
    """An OpenAPI description by topics, in the order of their names."""
    schemas = description["components"]["schemas"]
    by_tag: dict[str, list[Operation]] = {}
    for path, methods in description["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                by_tag.setdefault(told["tags"][0], []).append(operation_of(method, path, told, schemas))
    return tuple(Topic(slugify(tag), tag[:1].upper() + tag[1:], tuple(by_tag[tag])) for tag in sorted(by_tag))


def operation_of(method: str, path: str, told: Json, schemas: Json) -> Operation:
    asked = told.get("requestBody", {}).get("content", {})
    parameters = tuple(parameter_of(each, schemas) for each in told.get("parameters", ()))
    body = body_of(asked, schemas) if asked else None
    return Operation(
        id=told["operationId"],
        method=method.upper(),
        path=path,
        summary=told.get("summary", ""),
        description=told.get("description", ""),
        who=who_may_ask(told.get("security", [])),
        parameters=parameters,
        body=body,
        answers=tuple(answer_of(status, told["responses"][status], schemas) for status in told["responses"]),
        command=command_of(method, path, body),
    )


def who_may_ask(security: Sequence[Json]) -> str:
    if not security or {} in security:
        return "Everybody; with a token, more is visible."
    return "Only with a token."


def parameter_of(told: Json, schemas: Json) -> Field:
    schema = told.get("schema", {})
    return Field(
        name=told["name"],
        type=type_of(schema, schemas),
        notes=tuple(notes_of(schema, schemas)),
        help=told.get("description", ""),
        is_required=told.get("required", False),
        place=told["in"],
    )


def body_of(contents: Mapping[str, Json], schemas: Json) -> Body:
    first = next(iter(contents.values()))
    schema = first.get("schema", {})
    example = next((each["example"] for each in contents.values() if "example" in each), None)
    return Body(
        media_types=tuple(contents),
        fields=tuple(fields_of(schema, schemas)),
        example="" if example is None else json.dumps(example, indent=2, ensure_ascii=False),
    )


def answer_of(status: str, told: Json, schemas: Json) -> Answer:
    contents = told.get("content", {})
    is_success = status < "300" and bool(contents)
    return Answer(
        status=status,
        phrase=HTTPStatus(int(status)).phrase,
        description=told.get("description", ""),
        body=body_of(contents, schemas) if is_success else None,
        headers=tuple(told.get("headers", ())),
    )


def fields_of(schema: Json, schemas: Json, prefix: str = "", seen: tuple[str, ...] = ()) -> Iterator[Field]:
    """The fields of an object, or of the objects of a list, and those inside them."""
    name, found = resolved(schema, schemas)
    if found.get("type") == "array":
        yield from fields_of(found["items"], schemas, f"{prefix}[]" if prefix else "[]", seen)
        return
    if name in seen or len(seen) >= DEPTH_MAX:
        return
    required = found.get("required", ())
    for key, inner in found.get("properties", {}).items():
        full = f"{prefix}.{key}" if prefix else key
        yield Field(
            name=full,
            type=type_of(inner, schemas),
            notes=tuple(notes_of(inner, schemas)),
            help=inner.get("description", ""),
            is_required=key in required,
        )
        yield from fields_of(inner, schemas, full, (*seen, name))


def resolved(schema: Json, schemas: Json) -> tuple[str, Json]:
    """The name of a schema, if it has one, and the schema itself: behind references and what may be null."""
    name = ""
    while True:
        several = schema.get("allOf") or schema.get("oneOf") or schema.get("anyOf")
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = schemas[name]
        elif several and len(several) == 1:
            schema = several[0]
        else:
            return name, schema


def type_of(schema: Json, schemas: Json) -> str:
    _, found = resolved(schema, schemas)
    if several := found.get("oneOf") or found.get("anyOf"):
        return " or ".join(
            dict.fromkeys(type_of(each, schemas) for each in several if is_said(each, schemas))
        )
    kind = found.get("type", "any JSON")
    if isinstance(kind, list):
        kind = " or ".join(kind)
    if kind == "array":
        return f"array of {type_of(found['items'], schemas)}"
    if found.get("format") in ("binary", "date-time", "uuid", "uri"):
        kind = {"binary": "file", "date-time": "time", "uuid": "UUID", "uri": "address"}[found["format"]]
    return f"{kind} or null" if schema.get("nullable") or found.get("nullable") else str(kind)


def is_said(schema: Json, schemas: Json) -> bool:
    """Whether it is more than the choice of nothing, which stands beside the choices of an optional field."""
    _, found = resolved(schema, schemas)
    return "enum" not in found or bool(choices_of(found, schemas))


def notes_of(schema: Json, schemas: Json) -> Iterator[str]:
    """What a value may be, in words."""
    _, found = resolved(schema, schemas)
    choices = [value for each in (found, *found.get("oneOf", ())) for value in choices_of(each, schemas)]
    if choices:
        shown = ", ".join(str(value) for value in choices[:ENUM_SHOWN_MAX])
        yield f"one of {shown}{', …' if len(choices) > ENUM_SHOWN_MAX else ''}"
    for keyword, words in LIMITS:
        if keyword in found:
            yield words.format(f"{found[keyword]:,}")
    default = schema.get("default", found.get("default"))
    if default not in (None, "", []):
        yield f"default {json.dumps(default, ensure_ascii=False)}"


def choices_of(schema: Json, schemas: Json) -> list[Any]:
    _, found = resolved(schema, schemas)
    return [value for value in found.get("enum", ()) if value not in ("", None)]


def command_of(method: str, path: str, body: Body | None) -> str:
    """The request as a curl command. HUB_SITE is the site's address, HUB_TOKEN a token."""
    lines = [f'curl "$HUB_SITE{path}"', '-H "Authorization: Bearer $HUB_TOKEN"']
    if method not in ("get", "post"):
        lines.append(f"-X {method.upper()}")
    if body is not None and JSON in body.media_types:
        lines += ['-H "Content-Type: application/json"', f"--data {quoted(body.example or '{}')}"]
    elif body is not None and FORM in body.media_types:
        lines += [f"-F {form_field(field)}" for field in body.fields if field.is_required]
    elif method == "post":
        lines.append("-X POST")
    return " \\\n  ".join(lines)


def form_field(field: Field) -> str:
    return f"{field.name}=@{field.name}" if field.type == "file" else f"{field.name}=…"


def quoted(text: str) -> str:
    """Text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
