"""The API's documentation: every operation, by its topic, in pages that need no script."""

import gzip
import json
from html import unescape

import pytest
from drf_spectacular.generators import SchemaGenerator

from hub_site.common.api_schema import read_examples
from hub_site.pages.api_docs import METHODS, arranged, fields_of, topics

pytestmark = pytest.mark.django_db
SENT_BYTES_MAX = 500_000  # of all pages together


def description():
    return SchemaGenerator().get_schema(request=None, public=True)


def test_every_operation_of_the_description_is_there_once():
    described = {
        operation["operationId"]
        for methods in description()["paths"].values()
        for method, operation in methods.items()
        if method in METHODS
    }
    shown = [operation.id for topic in topics() for operation in topic.operations]
    assert set(shown) == described
    assert len(shown) == len(set(shown)) > 80


def test_the_first_page_leads_to_each_operation(client):
    page = client.get("/api/docs/").content.decode()
    for topic in topics():
        for operation in topic.operations:
            assert f'href="/api/docs/{topic.slug}/#{operation.id}"' in page
    assert "<script" not in page[page.index("<main") : page.index("</main>")]


@pytest.mark.slow
def test_a_topic_shows_addresses_parameters_bodies_and_examples(client):
    pages = {topic.slug: client.get(f"/api/docs/{topic.slug}/").content.decode() for topic in topics()}
    for topic in topics():
        for operation in topic.operations:
            assert f'id="{operation.id}"' in pages[topic.slug]
            assert operation.path in pages[topic.slug]
    example = json.dumps(read_examples()["modules_read"]["response"], indent=2, ensure_ascii=False)
    assert example in unescape(pages["modules"])
    assert client.get("/api/docs/nothing/").status_code == 404


@pytest.mark.slow
def test_all_of_it_is_small_to_send(client):
    addresses = ["/api/docs/", *(f"/api/docs/{topic.slug}/" for topic in topics())]
    answers = [client.get(address, headers={"Accept-Encoding": "gzip"}) for address in addresses]
    assert all(gzip.decompress(answer.content) for answer in answers)
    assert sum(len(answer.content) for answer in answers) < SENT_BYTES_MAX


def arrange(schema, **schemas):
    return [(field.name, field.type, field.is_required, field.notes) for field in fields_of(schema, schemas)]


def test_fields_inside_fields_have_the_whole_way_as_their_name():
    inner = {"type": "object", "properties": {"weight": {"type": "number", "minimum": 0}}}
    outer = {
        "type": "object",
        "required": ["modules"],
        "properties": {
            "modules": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
            "kind": {"oneOf": [{"enum": ["a", "b"], "type": "string"}, {"enum": [""]}], "default": "a"},
            "when": {"type": "string", "format": "date-time", "nullable": True},
        },
    }
    assert arrange(outer, Inner=inner) == [
        ("modules", "array of object", True, ()),
        ("modules[].weight", "number", False, ("from 0",)),
        ("kind", "string", False, ("one of a, b", 'default "a"')),
        ("when", "time or null", False, ()),
    ]


def test_a_schema_that_holds_itself_ends():
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    assert [name for name, *_ in arrange({"$ref": "#/components/schemas/Node"}, Node=node)] == ["next"]


def test_the_command_sends_the_example_and_quotes_it():
    operation = {
        "operationId": "say",
        "tags": ["talk"],
        "summary": "Say it",
        "requestBody": {"content": {"application/json": {"schema": {}, "example": {"text": "it's"}}}},
        "responses": {"201": {"description": ""}},
    }
    told = arranged({"paths": {"/api/v1/say": {"put": operation}}, "components": {"schemas": {}}})
    command = told[0].operations[0].command
    assert "-X PUT" in command
    assert """--data '{\n  "text": "it'\\''s"\n}'""" in command
