"""Under /api/v1/ nothing that a client sends is ignored: a misspelled name is told."""

import json
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers

from hub_site.common.api_inputs import BoundedDictField, BoundedListField, InputSerializer
from tests.factories import make_base, make_module

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(alice, api_of):
    return api_of(alice)


def operations():
    """Every operation of the API: an address of it, its method, its view."""
    inspector = SchemaGenerator()
    inspector._initialise_endpoints()
    return [
        (
            re.sub(r"{\w+_id}", str(UUID(int=1)), path.replace("{number}", "1"))
            .replace("{", "")
            .replace("}", ""),
            method,
            view,
        )
        for path, _, method, view in inspector._get_paths_and_endpoints()
        if path.startswith("/api/v1/")
    ]


def test_every_body_that_an_operation_describes_refuses_unknown_keys():
    bodies = {}
    for _, method, view in operations():
        handler = getattr(view, method.lower())
        schema = handler.kwargs["schema"]()
        schema.view = view
        asked = schema.get_request_serializer()
        for body in asked.values() if isinstance(asked, dict) else [asked]:
            if isinstance(body, type):
                bodies[view.__class__.__name__, method] = body
    assert len(bodies) >= 10
    assert {name: body for name, body in bodies.items() if not issubclass(body, InputSerializer)} == {}


def test_an_unknown_key_is_told_with_the_known_ones_and_with_what_else_is_wrong(api):
    asked = {"name": "a", "budgt": 3, "examples": [{"input": "a", "output": ""}]}
    answer = api.post("/api/v1/compositions", asked)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert error["fields"]["budgt"][0].startswith("There is no key “budgt” here. Known: name, sentence, base")
    assert "examples.0.output" in error["fields"]


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("modules", "post", {"nmae": "a"}),
        ("imports", "post", {"sources": ["a/b"], "source": "a/b"}),
        ("drafts/a-key", "put", {"fields": {}, "field": {}}),
    ],
)
def test_other_bodies_tell_of_an_unknown_key_too(api, path, method, body):
    answer = getattr(api, method)(
        f"/api/v1/{path}", body, format="multipart" if path == "modules" else "json"
    )
    assert answer.status_code == 400
    assert any("There is no key" in messages[0] for messages in answer.json()["error"]["fields"].values())


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("compositions", "page, page_size"),
        (
            "modules",
            "q, match, tag, base, task, language, licence, allows, author, rank, size, target, scaling, "
            "architecture, composable, evidence, fits, fits_by, sort, cursor, page_size",
        ),
        ("imports", "page, page_size"),
        ("bases", ""),
        ("whoami", ""),
    ],
)
def test_an_unknown_parameter_is_told_with_the_known_ones(api, path, known):
    answer = api.get(f"/api/v1/{path}?pagesize=3")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unknown_parameter"
    assert error["fields"]["pagesize"] == [
        f"There is no parameter “pagesize” here. {f'Known: {known}.' if known else 'None is known.'}"
    ]


def test_no_operation_takes_an_unknown_parameter_in_silence(api):
    taken = [
        f"{method} {path}"
        for path, method, _ in operations()
        if getattr(api, method.lower())(f"{path}?surprise=1").status_code != 400
    ]
    assert taken == []


def test_known_parameters_are_taken(api):
    assert api.get("/api/v1/modules?q=a&tag=b&tag=c&sort=recent&page_size=2").status_code == 200
    assert api.get("/api/v1/compositions?page=1&page_size=2").status_code == 200
    assert api.head("/api/v1/compositions?page=1").status_code == 200


def test_pages_and_the_hub_protocol_ignore_what_they_do_not_know(api, alice, browser_of):
    assert browser_of(alice).get("/compositions/?surprise=1").status_code == 200
    assert api.get("/api/models?surprise=1").status_code == 200


def test_the_description_of_the_api_names_the_columns_and_can_be_read(api):
    answer = api.get("/api/v1/schema", headers={"accept": "application/vnd.oai.openapi+json"})
    assert answer.status_code == 200
    asked = json.loads(answer.content)["components"]["schemas"]["CompositionRequestRequest"]["properties"]
    assert {"examples", "held_out", "input_column", "output_column"} <= asked.keys()
    assert asked["examples"]["type"] == "array"


@pytest.mark.parametrize("address", ["/api/v1/compositions", "/api/v1/compositions/estimate"])
def test_a_key_that_stands_twice_in_one_object_is_refused(api, address):
    body = '{"name": "a", "examples": [{"input": "a", "output": "b", "output": "c"}]}'
    answer = api.post(address, body, content_type="application/json")
    assert answer.status_code == 400
    assert "an object has the key “output” twice" in answer.json()["error"]["message"]


def test_every_list_that_can_be_sent_has_a_cap():
    described = SchemaGenerator().get_schema(request=None, public=True)
    parts = described["components"]["schemas"]
    operations_described = [each for methods in described["paths"].values() for each in methods.values()]
    sent = [parameter for each in operations_described for parameter in each.get("parameters", [])]
    bodies = [each["requestBody"]["content"] for each in operations_described if "requestBody" in each]
    names = {content["schema"]["$ref"].rpartition("/")[2] for body in bodies for content in body.values()}
    lists = list(lists_in([sent, [parts[name] for name in sorted(names)]]))
    assert len(lists) > 5
    assert [each for each in lists if "maxItems" not in each] == []


NAME_OF_EXAMPLES = {"name": "a", "examples": [{"input": "a", "output": "b"}]}
MANY = 40_000  # of at most 50,000 values
HOSTILE_BODIES = {
    "modules": ("post", "compositions", NAME_OF_EXAMPLES | {"modules": [{}] * MANY}),
    "modules within the cap": ("post", "compositions", NAME_OF_EXAMPLES | {"modules": [{}] * 64}),
    "examples": ("post", "compositions", {"name": "a", "examples": [[]] * MANY}),
    "held_out": ("post", "compositions", NAME_OF_EXAMPLES | {"held_out": [{}] * 1000}),
    "sources": ("post", "imports", {"sources": [{}] * 10_000}),
    "many sources": ("post", "imports", {"sources": [{}] * MANY}),
    "tags": ("patch", "modules/alice/m", {"tags": [{}] * MANY}),
    "fields": ("put", "drafts/a-key", {"fields": {"a": [{}] * MANY}}),
    "names of fields": ("put", "drafts/a-key", {"fields": {str(index): {} for index in range(MANY)}}),
    "values of fields": ("put", "drafts/a-key", {"fields": {str(index): [[]] for index in range(4000)}}),
    "unknown keys": ("post", "compositions", {str(index): 1 for index in range(MANY)}),
    "a long unknown key": ("post", "imports", {"k" * 900_000: 1}),
    "a long choice": ("post", "compositions", NAME_OF_EXAMPLES | {"level": "k" * 900_000}),
    "no text": ("post", "compositions", {"k": ["\0"] * MANY}),
    "too many values": ("post", "compositions", {"examples": [[]] * 3_900_000}),
}


def least_taken(ask: Callable[[], Any]) -> tuple[Any, float]:
    """The answer, and the least processor time of three: garbage of earlier tests may be collected in one."""
    taken_s = []
    for _ in range(3):
        began_s = time.process_time()
        answer = ask()
        taken_s.append(time.process_time() - began_s)
    return answer, min(taken_s)


@pytest.mark.parametrize("what", HOSTILE_BODIES)
def test_no_body_costs_much_or_gets_a_large_answer(api, alice, tmp_path, what):
    method, path, asked = HOSTILE_BODIES[what]
    body = json.dumps(asked)
    if path.startswith("modules"):
        make_base(tmp_path)
        make_module(alice, "m")
    api.get("/api/v1/whoami")  # what is made once per process is made
    answer, taken_s = least_taken(
        lambda: getattr(api, method)(f"/api/v1/{path}", body, content_type="application/json")
    )
    assert taken_s < 0.5
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("path", ["/api/repos/create", "/api/repos/move"])
def test_a_hub_client_s_body_has_the_same_cap(api, path):
    body = '{"name":[' + "[]," * 1_200_000 + "[]]}"
    answer, taken_s = least_taken(lambda: api.post(path, body, content_type="application/json"))
    assert taken_s < 0.5
    assert (answer.status_code, "more than 50,000 values" in answer.json()["error"]) == (400, True)


def test_of_many_unknown_keys_the_first_are_named_and_the_others_counted(api):
    answer = api.post("/api/v1/imports", {str(index): 1 for index in range(1000)}, format="json")
    fields = answer.json()["error"]["fields"]
    assert [name for name in fields if name.isdecimal()] == ["0", "1", "2", "3", "4"]
    assert fields["body"] == ["There are 995 more unknown keys."]


def test_a_list_in_a_body_looks_at_its_length_before_its_items():
    for _, _, view in operations():
        for field in fields_of(view):
            assert isinstance(field, BoundedListField | BoundedDictField)


def fields_of(view):
    """The fields of several values in what a view's operations take."""
    for method in ("post", "put", "patch", "delete"):
        handler = getattr(view, method, None)
        if handler is None:
            continue
        schema = handler.kwargs["schema"]()
        schema.view, schema.method, schema.path = view, method.upper(), ""
        asked = schema.get_request_serializer()
        for body in asked.values() if isinstance(asked, dict) else [asked]:
            if isinstance(body, type):
                kinds = serializers.ListField | serializers.DictField | serializers.ListSerializer
                yield from (field for field in body().fields.values() if isinstance(field, kinds))


def lists_in(described):
    """Every list in a description of what is sent."""
    if isinstance(described, dict) and described.get("type") == "array":
        yield described
    values = described.values() if isinstance(described, dict) else described
    for value in values if isinstance(described, dict | list) else ():
        yield from lists_in(value)
