"""The examples in the API's description: each request works as it stands, each answer is shaped like it."""

from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from hub_site.common.api_schema import JSON, read_examples
from modules_registry.popularity import download_count, module_like
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401

pytestmark = pytest.mark.django_db
EXAMPLES = read_examples()


def described():
    """The path and the method of each operation, and its description."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return {
        operation["operationId"]: (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def shape(value: Any) -> Any:
    """What is there, without the values; a list as its first item, and null as anything."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return None if value is None else type(value).__name__.replace("int", "float")


def is_shaped_like(found: Any, example: Any) -> bool:
    """Whether all that the example shows is there, and of the same kind."""
    if found is None or example is None:
        return True
    if isinstance(found, dict) and isinstance(example, dict):
        return all(name in found and is_shaped_like(found[name], example[name]) for name in example)
    if isinstance(found, list) and isinstance(example, list):
        return not (found and example) or is_shaped_like(found[0], example[0])
    return shape(found) == shape(example)


@pytest.fixture
def world(done, modules, alice, bob, wakes, api_of):  # noqa: F811
    """A program of Alice's, and what parts of addresses name."""
    composition, module = done(), modules[0]
    module_like(user=alice, module=module)
    download_count(version=module.current, client="somebody")
    names = {"namespace": "bob", "name": "first", "tag": "french", "composition_id": str(composition.pk)}
    return api_of(alice), names


def answer_of(world, operation_id):
    client, names = world
    path, method, _ = described()[operation_id]
    example = EXAMPLES[operation_id]
    parts = names | example.get("path", {})
    filled = path.format(**parts)
    sent = [example["request"]] if "request" in example else [example.get("query", {})]
    return getattr(client, method)(filled, *sent)


@pytest.mark.parametrize("operation_id", EXAMPLES)
def test_an_example_works_as_it_stands_and_is_answered_in_its_shape(operation_id, world):
    answer = answer_of(world, operation_id)
    assert answer.status_code < 300, answer.content
    assert is_shaped_like(answer.json(), EXAMPLES[operation_id]["response"]), answer.content


def test_every_example_is_in_the_description():
    operations = described()
    for operation_id, example in EXAMPLES.items():
        _, _, operation = operations[operation_id]
        contents = [answer.get("content", {}).get(JSON, {}) for answer in operation["responses"].values()]
        assert example["response"] in [content.get("example") for content in contents]
    assert len(EXAMPLES) > 20
