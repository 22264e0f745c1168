"""The API's whole description is asked for, by everybody, in states that come from one another.

Requests are made from the OpenAPI description: valid ones, and valid ones with one thing spoiled. What an
answer names (a composition, an import, a link, an organisation) later requests ask for. A few dozen share
a transaction, which is then taken back.
"""

import json
import logging
import random
import re
import time
from collections import Counter
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from allauth.usersessions.models import UserSession
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator

from benchmarks.machine import machine
from composer.models import Composition
from composer.task.demo_tasks import demo_tasks
from hub_site.accounts.organizations import member_invite
from hub_site.accounts.services import organization_create
from tests.access.world import IDENTITIES, make_identities, make_things
from tests.attacks.results import record_result
from tests.attacks.test_hostile_requests import HOSTILE, OF_ANY_OPERATION, is_told_as_json
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401
from tests.conftest import TESTS_ARE_LONG
from tests.factories import BASE_NAME, card_file, config_file, weights_file

SEED = 1717
LINKED = 40  # requests that see what the ones before them did
SPOILED = 0.4  # the share of requests with one thing that is wrong
NEEDS_ASGI = "/api/v1/compositions/{composition_id}/stream"  # 501 under the test client
EXAMPLES = [{"input": text, "output": text.upper()} for text in ("kiwi", "lemon", "melon", "date")]

# A request that succeeds, where the description alone does not lead to one. A list of values: any of them.
WHOLE: dict[str, dict[str, Any]] = {
    "/api/v1/account": {"name": ["alice", "stranger-person"]},
    "/api/v1/compositions": {
        "name": "Fruit", "base": BASE_NAME, "method": ["exact", "auto", "linear"], "budget": [1, 30],
        "examples": [EXAMPLES], "held_out": [[], EXAMPLES[:1]], "seed": [1, 2, 3, 4, 5],
    },
    "/api/v1/drafts/{key}": {"fields": {"name": ["a"]}},
    "/api/v1/imports": {"sources": [["someone/something"], ["other/thing", "https://x.example/a/b"]]},
    "/api/v1/staff/things/{kind}/{key}": {
        "decision": ["quarantine", "release", "takedown", "dismiss", "block", "unblock"], "reason": "Look.",
    },
    "/api/v1/staff/accounts/{namespace}": {"decision": ["suspend", "restore"], "reason": "Spam."},
    "/api/v1/modules/{namespace}/{name}/try": {"input": "apple"},
    "/api/v1/compositions/{composition_id}/try": {"input": ["apple", "pear"]},
    "/api/v1/compositions/{composition_id}/publish": {
        "name": ["made-here", "made-there"], "sentence": "Made here.", "confirms_terms": True,
    },
    "/api/v1/modules/{namespace}/{name}/move": {
        "name": ["moved", "moved-again"], "namespace": ["lab", "alice"],
    },
    "/api/v1/modules/{namespace}/{name}": {"sentence": "Anew.", "private": [True, False], "card": "# Anew\n"},
    "/api/v1/modules": {
        "name": ["new-one", "new-two"], "namespace": ["lab", "alice", "stranger-person"], "licence": "mit",
        "sentence": "It is new.",
    },
    "/api/v1/organizations": {"name": ["club", "guild", "team"]},
    "/api/v1/organizations/{namespace}/members": {
        "who": ["stranger-person", "bob", "new@example.org"], "role": ["read", "write", "admin"],
    },
    "/api/v1/organizations/{namespace}/members/{member}": {"role": ["read", "write", "admin"]},
}  # fmt: skip
WHOLE["/api/v1/compositions/estimate"] = WHOLE["/api/v1/compositions/candidates"] = WHOLE[
    "/api/v1/compositions"
]
# The parts of an address that lead somewhere, most of the time.
THERE = {
    "/api/v1/staff/things/{kind}/{key}": {"kind": "module", "key": "{module_id}"},
    "/api/v1/staff/accounts/{namespace}": {"namespace": "stranger-person"},
    "/api/v1/modules/{namespace}/{name}/try": {"namespace": "bob", "name": "upper"},
    "/api/v1/modules/{namespace}/{name}/versions": {"namespace": "lab", "name": "hidden"},
}
# What needs more than requests: a worker, a finished import, an adapter that peft reads, an ASGI server.
NOT_REACHED = {
    f"get {NEEDS_ASGI}",
    "get /api/v1/compositions/{composition_id}/adapters/{key}",
    "get /api/v1/shared/{token}/adapters/{key}",
    "post /api/v1/compositions/{composition_id}/publish",
    "post /api/v1/imports/{import_id}/again",
    "post /api/v1/worker-requests",
}
# What an answer to POST names, and the part of an address that it becomes.
LEARNED = {
    "/api/v1/compositions": ("id", "composition_id"),
    "/api/v1/imports": ("id", "import_id"),
    "/api/v1/compositions/{composition_id}/try": ("id", "tryout_id"),
    "/api/v1/modules/{namespace}/{name}/try": ("id", "tryout_id"),
    "/api/v1/find": ("id", "search_id"),
    "/api/v1/compositions/{composition_id}/share": ("api_url", "token"),
    "/api/v1/organizations": ("organization", "namespace"),
}


def description():
    return SchemaGenerator().get_schema(request=None, public=True)


class Requests:
    """Makes requests from the description, by chance."""

    def __init__(self, chance: random.Random, things: dict[str, list[Any]]) -> None:
        self.chance, self.schema, self.first_things = chance, description(), things
        self.things = things
        self.operations = [
            (path, method, operation)
            for path, methods in self.schema["paths"].items()
            for method, operation in methods.items()
        ]
        self.begin()

    def begin(self) -> None:
        """Forget what the requests before led to."""
        self.things = {name: list(values) for name, values in self.first_things.items()}

    def make(self, path: str, operation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """One request: its address, and the keywords of the client's call."""
        is_spoiled = self.chance.random() < SPOILED
        what = self.chance.choice(("path", "query", "body", "body")) if is_spoiled else ""
        there = THERE.get(path, {}) if self.chance.random() < 0.7 and what != "path" else {}
        filled = re.sub(r"{(\w+)}", lambda part: there.get(part[1], part[0]), path)
        address = re.sub(r"{(\w+)}", lambda part: self.part(part[1], spoil=what == "path"), filled)
        query = self.query(operation, spoil=what == "query")
        return address + (f"?{urlencode(query)}" if query else ""), self.body(path, operation, what == "body")

    def part(self, name: str, *, spoil: bool) -> str:
        value = self.chance.choice(HOSTILE if spoil else self.things[name])
        return quote(value if isinstance(value, bytes) else str(value), safe="")

    def query(self, operation: dict[str, Any], *, spoil: bool) -> dict[str, Any]:
        named = [field for field in operation.get("parameters", ()) if field["in"] == "query"]
        chosen = [field for field in named if self.chance.random() < 0.3]
        query = {field["name"]: self.value(field["schema"]) for field in chosen}
        if spoil:
            query[self.chance.choice([*(field["name"] for field in named), "unknown"])] = self.chance.choice(
                HOSTILE
            )
        return query

    def body(self, path: str, operation: dict[str, Any], spoil: bool) -> dict[str, Any]:
        kinds = operation.get("requestBody", {}).get("content", {})
        if not kinds and path not in WHOLE:
            return {"data": '{"a": 1}', "content_type": "application/json"} if spoil else {}
        schema = self.resolved(next(iter(kinds.values()))["schema"]) if kinds else {"properties": {}}
        body = self.object(schema) | {name: self.one_of(value) for name, value in WHOLE.get(path, {}).items()}
        if spoil:
            self.spoil(body, list(schema["properties"]))
        files = {name: value for name, value in body.items() if isinstance(value, BytesIO)}
        if files or ("multipart/form-data" in kinds and "application/json" not in kinds):
            return {"data": {name: as_field(value) for name, value in body.items()}}
        return {"data": json.dumps(body), "content_type": "application/json"}

    def one_of(self, value: Any) -> Any:
        return self.chance.choice(value) if isinstance(value, list) else value

    def spoil(self, body: dict[str, Any], names: list[str]) -> None:
        name = self.chance.choice([*names, "unknown"])
        how = self.chance.randrange(4)
        if how == 0:
            body.pop(name, None)
        elif how == 1:
            body[name] = self.hostile_text()
        else:
            body[name] = self.chance.choice(
                [
                    None,
                    True,
                    -1,
                    0,
                    10**30,
                    1e308,
                    [],
                    [[]],
                    {},
                    {"a": [None]},
                    [{"input": 7}],
                    ["x"] * 600,
                    "\ud800",
                ]
            )

    def hostile_text(self) -> str:
        value = self.chance.choice(HOSTILE)
        return (
            value.decode("utf-8", "surrogateescape").replace("\udced", "x")
            if isinstance(value, bytes)
            else value
        )

    # --- values of the description ------------------------------------------------

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            found: dict[str, Any] = self.schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            return self.resolved(found)
        for several in ("allOf", "oneOf", "anyOf"):
            if several in schema:
                return self.resolved(self.chance.choice(schema[several]))
        return schema

    def object(self, schema: dict[str, Any]) -> dict[str, Any]:
        needed = set(schema.get("required", ()))
        return {
            name: self.value(field, name)
            for name, field in schema.get("properties", {}).items()
            if name in needed or self.chance.random() < 0.15
        }

    def value(self, schema: dict[str, Any], name: str = "") -> Any:
        schema = self.resolved(schema)
        if name in FILES and schema.get("format") == "binary":
            return FILES[name](self.chance)
        if "enum" in schema:
            return self.chance.choice(schema["enum"])
        if name in self.things and schema.get("type") == "string":
            return self.chance.choice(self.things[name])
        kind = schema.get("type")
        if kind == "integer":
            return self.chance.choice((schema.get("minimum", 1), min(schema.get("maximum", 3), 3)))
        if kind == "boolean":
            return self.chance.random() < 0.5
        if kind == "array":
            return [self.value(schema["items"], name) for _ in range(self.chance.randrange(3))]
        if kind == "object":
            return self.object(schema)
        return self.chance.choice(("fruit", "x", "a b", "été"))[: schema.get("maxLength", 10)]

    def learn(self, path: str, answer: Any) -> None:
        """Keep what a POST that succeeded names, for the addresses of later requests."""
        if path in LEARNED:
            key, part = LEARNED[path]
            named = str(json.loads(answer.content)[key]).rpartition("/")[2]
            self.things[part] = [named, *self.things[part]][:4]


FILES = {
    "config_file": lambda chance: config_file(),
    "weights_file": lambda chance: weights_file(seed=chance.randrange(100, 10_000)),
    "card_file": lambda chance: card_file(),
}


def as_field(value: Any) -> Any:
    """A value as a form sends it."""
    if isinstance(value, BytesIO | str):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    return [json.dumps(each) for each in value] if isinstance(value, list) else json.dumps(value)


@pytest.fixture
def world(alice, bob, staff, done):  # noqa: F811
    """The identities by name, and for each part of an address what there is."""
    logging.disable(logging.CRITICAL)  # of thousands of refusals
    identities = make_identities(alice, staff)
    composition = done()
    things = make_things(alice, composition)
    invitation = member_invite(
        actor=bob, namespace=organization_create(founder=bob, name="hall"), who="alice", role="write"
    )
    session = UserSession.objects.create(user=alice, session_key="a" * 32, ip="10.0.0.1", user_agent="x")
    waiting = Composition.objects.exclude(pk=composition.pk).values_list("pk", flat=True)
    yield (
        identities,
        {name: [value] for name, value in things.items()}
        | {
            "composition_id": [composition.pk, composition.pk, *waiting],
            "namespace": ["lab", "lab", "bob", "alice", "stranger-person"],
            "name": ["hidden", "other", "upper", "first", "report.json", "modules.csv", demo_tasks()[0].name],
            "kind": ["module", "composition"],
            "digest": ["0123abcd", "f" * 64],
            "key": ["0f8b", "lora", things["module_id"], str(composition.pk)],
            "member": ["reader-person", "writer-person", "alice"],
            "number": [invitation.pk, session.pk],
            "path": ["README.md", "adapter_config.json", "adapter_model.safetensors"],
            "base": [BASE_NAME],
        },
    )
    logging.disable(logging.NOTSET)


def what_is_wrong(path, method, operation, answer):
    """What is wrong with an answer, or nothing."""
    if path == NEEDS_ASGI and answer.status_code == 501:
        return ""
    if answer.status_code >= 500 and str(answer.status_code) not in operation["responses"]:
        return f"{answer.status_code} {getattr(answer, 'exc_info', None)}"
    if answer.status_code not in {*map(int, operation["responses"]), *OF_ANY_OPERATION}:
        return f"{answer.status_code} is not described"
    if answer.status_code >= 400 and not is_told_as_json(answer, path):
        return f"{answer.status_code} is not told as JSON: {answer.content[:80]!r}"
    return ""


@pytest.mark.django_db
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200),
        pytest.param(2000, marks=pytest.mark.slow),
        pytest.param(20_000, marks=pytest.mark.long),
    ],
)
def test_every_answer_of_the_api_is_described_whoever_asks(world, wakes, count):  # noqa: F811
    identities, things = world
    chance = random.Random(SEED)
    requests = Requests(chance, things)
    wrong, statuses, reached = {}, Counter(), set()
    began_s, slowest_s = time.perf_counter(), 0.0
    for start in range(0, count, LINKED):
        requests.begin()
        with transaction.atomic():
            for _ in range(min(LINKED, count - start)):
                path, method, operation = chance.choice(requests.operations)
                address, sent = requests.make(path, operation)
                name = chance.choice((*IDENTITIES, "owner", "owner", "owner", "staff", "staff"))
                client = identities[name].client_for(path)
                asked_s = time.perf_counter()
                answer = getattr(client, method)(address, **({} if method == "get" else sent))
                slowest_s = max(slowest_s, time.perf_counter() - asked_s)
                statuses[answer.status_code] += 1
                if answer.status_code < 400:
                    reached.add((method, path))
                    if method == "post":
                        requests.learn(path, answer)
                if problem := what_is_wrong(path, method, operation, answer):
                    wrong[f"{method} {path} by {name}: {problem}"] = address[:120], str(sent)[:400]
            transaction.set_rollback(True)
    assert wrong == {}
    if count >= 20_000:
        every = {f"{method} {path}" for path, method, _ in requests.operations}
        assert every - {f"{method} {path}" for method, path in reached} <= NOT_REACHED
    if TESTS_ARE_LONG and count >= 20_000:
        record_result(
            "whole_api",
            {
                "requests": count,
                "operations": len(requests.operations),
                "operations_that_succeeded": len(reached),
                "wrong": len(wrong),
                "seconds": round(time.perf_counter() - began_s),
                "slowest_s": round(slowest_s, 2),
                "statuses": {str(status): n for status, n in sorted(statuses.items())},
                "machine": machine(),
            },
        )
