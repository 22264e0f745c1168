"""Whatever an address, a query, a header or a body holds: no answer is a 5xx, and programs get JSON."""

import json
import random
import re
from functools import cache
from urllib.parse import quote, urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from composer.share.services import share_renew
from hub_site.accounts.services import token_create
from tests.attacks.results import record_result
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401
from tests.conftest import TESTS_ARE_LONG

SEED = 17
DEEP = "[" * 100_000 + "]" * 100_000
HALF_PAIR = "\ud800".encode("utf-8", "surrogatepass")
NUL = "\x00"
HOSTILE = (
    NUL, "a\x00b", "%00", HALF_PAIR, "..", "9" * 5000, "-1", "1e400", "'\"<>", "\u202e", "x" * 3000, " ",
    "\r\nX-Injected: yes", "(((((", "*", "%", "\\", "\uffff", "nan",
)  # fmt: skip
QUERY = """q tag page page_size after limit cursor filter expand sort revision show state modules base find
    draft again task search author p next recursive blobs key new number
    match language allows rank size target scaling architecture composable evidence
    id of task known""".split()  # noqa: SIM905
KEYS = ("name", "examples", "modules", "fields", "sources", "files", "objects")
BODIES = (
    DEEP,
    '{"name":' + DEEP + "}",
    json.dumps({"name": "\ud800", "\udfff": "x", "examples": [{"input": "\ud800", "output": ""}]}),
    json.dumps(dict.fromkeys(("name", "question", "type", "tag", "label"), NUL) | {"fields": {"a": [NUL]}}),
    '{"seed": ' + "9" * 4000 + ', "budget": 1e400, "rank": ' + "9" * 30 + ', "days": 1e999}',
    json.dumps(dict.fromkeys(KEYS, 7)),
    json.dumps({key: [{}] for key in KEYS}),
    json.dumps({"operation": "upload", "objects": [{"oid": "\u0662" * 64, "size": 10**40}]}),
    json.dumps({"files": [{"path": NUL, "size": -1, "sample": "===="}, {"path": 7}]}),
    "[1, null, {}]", '"x"', "{", "", "null", '{"seed": NaN}', b'{"name": "\xff"}', b"\xff\xfe{\x00}\x00",
)  # fmt: skip
KINDS = (
    "application/json", "application/json", "application/json; charset=x", "multipart/form-data",
    "multipart/form-data; boundary=x", "text/plain", "application/x-ndjson",
    "application/x-www-form-urlencoded",
)  # fmt: skip
HEADERS = (
    {},
    {"Range": "bytes=" + "9" * 5000 + "-"},
    {"Range": "bytes=-" + "9" * 5000},
    {"Idempotency-Key": "\xe9\x00"},
    {"Last-Event-ID": "9" * 5000},
    {"If-None-Match": 'W/"' * 500},
    {"Authorization": "Bearer \x00"},
    {"Authorization": "Bearer " + "x" * 5000},
    {"Accept": "\xff/*;q=nan"},
    {"HX-Request": "true", "HX-Target": "\x00"},
    {"Host": "evil.example"},
    {"User-Agent": "\x00\xff"},
    {"If-Range": "\x00"},
)


NOBODY_S = "00000000-0000-0000-0000-000000000000"
WHATEVER_IS_THERE = {  # parts of addresses, by name
    "tryout_id": [NOBODY_S],
    "search_id": [NOBODY_S],
    "key": ["0f8b", "lora"],
    "number": ["1"],
    "member": ["bob"],
    "kind": ["datasets"],
    "tag": ["french", "x"],
    "topic": ["modules"],
    "digest": ["0123abcd", "0f8b"],
    "group": ["shots", "held-out"],
    "rest": ["x"],
    "signed": ["x"],
    "uidb36": ["1"],
    "slug": ["hub", "glossary"],
}

OF_ANY_OPERATION = {
    400,  # a body, an address, a host that cannot be read
    401,  # a token that is none
    403,  # a limit of the token
    404,
    406,
    415,
}


@pytest.fixture
def real(done, alice, wakes):  # noqa: F811
    """What an address may name, and is there: so that success paths are reached too."""
    composition = done()
    link = share_renew(owner=alice, composition_id=composition.pk)
    return WHATEVER_IS_THERE | {
        "composition_id": [composition.pk],
        "import_id": [NOBODY_S],
        "token": [link.token],
        "token_id": [1],
        "namespace": ["bob"],
        "repo": ["bob/upper"],
        "name": ["upper", "report.json", "bob"],
        "address": ["main/README.md", "main"],
        "revision": ["main", "v1"],
        "path": ["README.md"],
    }


def hostile_request(chance, real):
    """One request: its route, method, address, body, kind of the body, headers."""
    route = address = chance.choice(ADDRESSES)
    for name in re.findall(r"{(\w+)}", address):
        value = chance.choice(real[name]) if chance.random() < 0.7 else chance.choice(HOSTILE)
        address = address.replace("{" + name + "}", quote(value if isinstance(value, bytes) else str(value)))
    names = chance.sample(QUERY, chance.choice((0, 1, 1, 3)))
    if names:
        address += "?" + urlencode({name: chance.choice(HOSTILE) for name in names})
    method = chance.choice(("GET", "GET", "HEAD", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
    return route, method, address, chance.choice(BODIES), chance.choice(KINDS), chance.choice(HEADERS)


def send(chance, clients, real):
    """Send one request; return what is wrong with the answer, or nothing."""
    route, method, address, body, kind, headers = hostile_request(chance, real)
    client = chance.choice(clients)
    sent = {} if method in ("GET", "HEAD") else {"data": body, "content_type": kind}
    with transaction.atomic():
        answer = client.generic(method, address, headers=headers, **sent)
        transaction.set_rollback(True)
    told = f"{answer.status_code} {method} {address[:150]} {str(body)[:60]!r} {kind} {str(headers)[:60]}"
    if answer.status_code >= 500 and not address.partition("?")[0].rstrip("/").endswith(
        "/stream"
    ):  # these need ASGI
        return f"{told}: {getattr(answer, 'exc_info', None)}"
    if answer.status_code not in statuses_described(route, method):
        return f"{told}: this status is not described"
    if answer.status_code >= 400 and address.startswith("/api/") and method != "HEAD":
        return "" if is_told_as_json(answer, address) else f"{told}: {answer.content[:80]!r}"
    return ""


def statuses_described(route, method):
    """What the API's description says of an operation; of anything else, whatever there is."""
    if not route.startswith("/api/v1/"):
        return range(600)
    operation = described_paths().get(route, {}).get(method.lower().replace("head", "get"))
    return range(600) if operation is None else {*map(int, operation["responses"]), *OF_ANY_OPERATION}


@cache
def described_paths():
    return SchemaGenerator().get_schema(request=None, public=True)["paths"]


def is_told_as_json(answer, address):
    try:
        error = json.loads(answer.content)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return {"code", "message"} <= set(error) if address.startswith("/api/v1/") else isinstance(error, str)


def addresses():
    """An address of every route, with its parameters in braces."""
    return sorted({address for route in routes(get_resolver()) for address in [plain(route)] if address})


def routes(resolver, before=""):
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route
        elif not route.startswith("admin"):
            yield from routes(pattern, route)


def plain(route):
    """A route as an address: each parameter as {its name}, each other group as its first alternative."""
    text = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route) if "(?" not in route else route
    while (found := re.search(r"\(\?P<(\w+)>|\(\?:|\(", text)) is not None:
        end = closing(text, found.end())
        inner = "{" + found[1] + "}" if found[1] else text[found.end() : end].split("|")[0]
        text = text[: found.start()] + inner + text[end + 1 :]
    text = text.replace("\\.", ".").replace("\\Z", "")
    return "/" + re.sub(r"[\^$?]", "", text)


def closing(text, start):
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise AssertionError(text)


ADDRESSES = addresses()


@pytest.mark.parametrize(
    "count",
    [100, pytest.param(1500, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.long)],
)
def test_no_request_makes_a_5xx_and_programs_are_told_in_json(real, alice, staff, count):
    chance = random.Random(SEED)
    signed_in, in_charge = (Client(raise_request_exception=False) for _ in range(2))
    program = APIClient(raise_request_exception=False)
    signed_in.force_login(alice)
    in_charge.force_login(staff)
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {token_create(user=alice, label='x', scope='write')[1]}")
    clients = [Client(raise_request_exception=False), signed_in, in_charge, program, program]
    wrong = {problem: None for _ in range(count) if (problem := send(chance, clients, real))}
    assert list(wrong) == []
    if TESTS_ARE_LONG:
        record_result(
            "hostile_requests", {"requests": count, "addresses": len(ADDRESSES), "wrong": len(wrong)}
        )
