"""The examples in the API's description: each request works as it stands, each answer is shaped like it."""

from functools import cache
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from composer.finding.services import example_search_ask
from composer.playground.models import TryOut
from composer.playground.selectors import Requester
from composer.request.drafts import draft_keep
from composer.share.services import share_renew
from hub_site.accounts.organizations import member_invite
from hub_site.accounts.services import organization_create
from hub_site.common.api_schema import JSON, read_examples
from modules_registry.importing.services import import_request
from modules_registry.popularity import download_count, module_like
from modules_registry.services import version_add
from tests.composer.conftest import SHOTS, ask, base, done, modules, no_flushing, wakes  # noqa: F401
from tests.factories import adapter_files

pytestmark = pytest.mark.django_db
EXAMPLES = read_examples()
ANSWERED = {
    "prompt": "apple", "prompt_tokens": 2,
    "adapted": {"text": "APPLE", "seconds": 0.12, "tokens": 3, "is_out_of_time": False, "is_full": False},
    "base": {"text": "apple", "seconds": 0.1, "tokens": 2, "is_out_of_time": False, "is_full": False},
}  # fmt: skip
UPLOADS = ("modules_publish", "versions_add")  # the files' names stand for them
# What needs more than requests: a mail server, an adapter that peft reads, an end, no worker.
NOT_RUN = {
    *("compositions_mail", "compositions_publish", "example_retrieve", "imports_again"),
    "worker_requests_create",
}
QUICK = {"modules_list", "modules_compare", "compositions_create", "find_create", "organizations_invite"}
FILES = {"compositions_file", "shared_file", "files_download"}  # their answer is a file as it is stored


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
def world(done, ask, modules, alice, bob, charlie, staff, wakes, api_of, monkeypatch):  # noqa: F811
    """Programs of three people, and what parts of addresses name: by name, and for some addresses alone."""
    monkeypatch.setattr("composer.playground.api.WAIT_S", 0)
    composition, waiting, module = done(), ask(), modules[0]
    version_add(author=bob, module=module, **adapter_files(seed=9))
    module_like(user=alice, module=module)
    download_count(version=module.current, client="somebody")
    lab = organization_create(founder=alice, name="lab")
    lab.memberships.create(user=charlie, role="read")
    invited = member_invite(actor=bob, namespace=organization_create(founder=bob, name="club"),
                            who="alice", role="write")  # fmt: skip
    draft_keep(owner=alice, key="0f8b", fields={"name": ["Fruit"], "shots_input": ["apple", "pear"]})
    imported = import_request(owner=alice, namespace=alice.namespace, sources=["somebody/their-lora"])
    search = example_search_ask(requester=Requester(alice), sentence="fruit", examples=SHOTS)
    question = TryOut.objects.create(
        owner=alice, version=module.current, base=composition.base, input="apple", template="{input}",
        max_new_tokens=8, status="done", finished_at=module.updated_at, result=ANSWERED,
    )  # fmt: skip
    names = {
        "namespace": "bob", "name": "first", "tag": "french", "member": "charlie", "key": "0f8b",
        "digest": module.current.weights_sha256, "number": str(invited.pk),
        "composition_id": str(composition.pk), "search_id": str(search.pk), "tryout_id": str(question.pk),
        "import_id": str(imported.pk),
        "token": share_renew(owner=alice, composition_id=composition.pk).token,
    }  # fmt: skip
    own = {
        "compositions_cancel": {"composition_id": str(waiting.pk)},
        "staff_thing": {"kind": "module", "key": str(module.pk)},
        "staff_decide": {"kind": "module", "key": str(module.pk)},
    }
    clients = {user.username: api_of(user) for user in (alice, bob, staff)}
    return clients, names, own


def answer_of(world, operation_id):
    clients, names, own = world
    path, method, _ = described()[operation_id]
    example = EXAMPLES[operation_id]
    client = clients[example.get("as", "alice")]
    filled = path.format(**names | own.get(operation_id, {}) | example.get("path", {}))
    if operation_id in UPLOADS:
        return getattr(client, method)(filled, example["request"] | adapter_files(seed=5), format="multipart")
    sent = [example["request"]] if "request" in example else [example.get("query", {})]
    return getattr(client, method)(filled, *sent)


@pytest.mark.parametrize(
    "operation_id",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in EXAMPLES
        if name not in NOT_RUN
    ],
)
def test_an_example_works_as_it_stands_and_is_answered_in_its_shape(operation_id, world):
    answer = answer_of(world, operation_id)
    assert answer.status_code < 300, answer.content
    assert is_shaped_like(answer.json(), EXAMPLES[operation_id]["response"]), answer.content


def contents_of(operation):
    """The JSON that an operation takes and gives: content by "request" and "response"."""
    found = {}
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        found["request"] = body.get(JSON) or body["multipart/form-data"]
    for status, answer in sorted(operation["responses"].items()):
        if status.startswith("2") and JSON in answer.get("content", {}):
            found.setdefault("response", answer["content"][JSON])
    return found


def as_json_schema(schema):
    """An OpenAPI 3.0 schema as JSON Schema writes it: what may be null, and files as their names."""
    if isinstance(schema, list):
        return [as_json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: as_json_schema(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") is True else found


@cache
def components():
    return as_json_schema(SchemaGenerator().get_schema(request=None, public=True)["components"])


def test_every_operation_that_takes_or_gives_json_has_its_example():
    missing = [
        (name, part)
        for name, (_, _, operation) in described().items()
        for part, content in contents_of(operation).items()
        if "example" not in content and name not in FILES
    ]
    assert not missing


@pytest.mark.parametrize("part", ["request", "response"])
def test_every_example_is_as_its_schema_says(part):
    problems = []
    for name, (_, _, operation) in described().items():
        content = contents_of(operation).get(part, {})
        if "example" in content:
            schema = as_json_schema(content["schema"]) | {"components": components()}
            problems += [
                f"{name}: {'.'.join(map(str, each.absolute_path))}: {each.message[:200]}"
                for each in Draft202012Validator(schema).iter_errors(content["example"])
            ]
    assert not problems


def test_every_example_is_of_an_operation():
    assert not set(EXAMPLES) - set(described())
