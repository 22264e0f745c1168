"""What is private is in no answer that a stranger gets, in no log and in no mail."""

import json
import logging
import re
from itertools import product
from urllib.parse import quote, unquote, urlencode
from zlib import crc32

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client

from composer.core.spec.examples import Example
from composer.request.drafts import draft_keep
from composer.share.services import share_renew
from hub_site.accounts.services import organization_create, token_create
from hub_site.logs import LineFormatter
from modules_registry.importing.services import import_request
from tests.attacks.test_hostile_requests import ADDRESSES, WHATEVER_IS_THERE
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401
from tests.conftest import TESTS_ARE_LONG
from tests.factories import card_file, make_module

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # every address, for every kind of stranger

NAME = "hidden-thing"  # in addresses, too: an answer may say again what was asked for
WEIGHTS = re.compile(rb"weights of \[.*?\}\]")  # the stand-in for the core writes names in place of numbers
CANARY = re.compile(rb"canary-[a-z]+|hidden-thing")
SHARED_ON_PURPOSE = {b"canary-title", b"canary-sentence"}  # what the reader of a private link is shown


@pytest.fixture
def real(alice, bob, done, monkeypatch):  # noqa: F811
    """A canary in every private text; and what each part of an address may be."""
    monkeypatch.setattr(alice, "email", "canary-mail@example.org")
    alice.save()
    make_module(
        alice,
        NAME,
        private=True,
        seed=9,
        sentence="canary-modulesentence",
        tags=["canary-tag"],
        card_file=card_file("# canary-card\n"),
        prompt_template="canary-prompt {input}",
    )
    composition = done(
        name="canary-title",
        sentence="canary-sentence",
        examples=[Example("canary-shot", "canary-output"), Example("canary-other", "canary-output")],
        held_out=[Example("canary-held", "canary-expected")],
        template="canary-template {input}",
    )
    assert composition.modules.filter(name=f"alice/{NAME}").exists()
    sums = {f"modules/alice/{NAME}/adapter_config.json": "5" * 64}
    composition.report["inputs_sha256"] |= sums
    composition.save(update_fields=["report"])
    link = share_renew(owner=alice, composition_id=composition.pk, shows_answers=False)
    draft_keep(owner=alice, key="0f8b", fields={"name": ["canary-draft"]})
    token, _ = token_create(user=alice, label="canary-label", scope="write")
    asked = import_request(owner=alice, namespace=alice.namespace, sources=["canary-owner/canary-source"])
    organization_create(founder=alice, name="lab")
    return WHATEVER_IS_THERE | {
        "composition_id": [composition.pk],
        "import_id": [asked.pk],
        "token": [link.token],
        "token_id": [token.pk],
        "namespace": ["alice"],
        "repo": [f"alice/{NAME}"],
        "name": [NAME, "report.json", "modules.csv", "report.md"],
        "address": ["main/README.md", "main"],
        "revision": ["main"],
        "path": ["README.md"],
    }


def filled(address, real):
    """The address with everything that its parts may be."""
    names = re.findall(r"{(\w+)}", address)
    for values in product(*(real[name] for name in names)):
        text = address
        for name, value in zip(names, values, strict=True):
            text = text.replace("{" + name + "}", quote(str(value)))
        yield text


def told_by(answer):
    """The canaries in an answer: its body, whole, and its headers."""
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return set(CANARY.findall(WEIGHTS.sub(b"", body) + str(dict(answer.headers)).encode()))


@pytest.fixture
def strangers(bob):
    """Those who may ask an address: nobody, and somebody else in a browser or with a token."""
    visitor, signed_in, program = (Client(raise_request_exception=False) for _ in range(3))
    signed_in.force_login(bob)
    token = token_create(user=bob, label="x", scope="write")[1]
    program.defaults["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return lambda address: (visitor, signed_in, program) if "/api/" in address else (visitor, signed_in)


UNKNOWN_METHOD = 405
FORM = "application/x-www-form-urlencoded"
# What a stranger would send to find out; each method of each address is asked with all of them.
BODIES = (
    {},
    {"name": NAME, "namespace": "alice", "fromRepo": f"alice/{NAME}", "toRepo": "bob/mine", "private": False},
    {"modules": [f"alice/{NAME}"], "base": "tests/tiny", "name": "x", "input": "a", "sentence": "x",
     "examples": [{"input": "canary?", "output": "x"}, {"input": "other", "output": "y"}]},
    {"who": "alice", "role": "read", "sources": ["a/b"], "paths": ["README.md"], "decision": "release",
     "reason": "other", "files": [{"path": "README.md", "size": 1, "sample": ""}], "operation": "download",
     "objects": [{"oid": "5" * 64, "size": 1}]},
)  # fmt: skip


def sendings(address):
    """Every method that could answer with something; with each body under --long, else with one of them."""
    yield "GET", {}
    bodies = BODIES if TESTS_ARE_LONG else [BODIES[crc32(address.encode()) % len(BODIES)]]
    for method, body in product(("POST", "PUT", "PATCH", "DELETE"), bodies):
        is_form = method == "POST" and not address.startswith("/api/")
        fields = {name: value for name, value in body.items() if isinstance(value, str)}
        data, kind = (urlencode(fields), FORM) if is_form else (json.dumps(body), "application/json")
        yield method, {"data": data, "content_type": kind}


def asked_for(address, sent):
    """What an answer may say again: names in the address, and what was sent."""
    return set(CANARY.findall((unquote(address) + str(sent.get("data", ""))).encode()))


def test_no_stranger_is_told_anything_private_by_any_method(real, strangers, caplog, capfd):
    mail.outbox.clear()
    told, unknown = {}, set()
    shared = {str(value) for value in real["token"]}
    with caplog.at_level(logging.INFO):
        asked = [(route, address) for route in ADDRESSES for address in filled(route, real)]
        for route, address in asked:
            for stranger, (method, sent) in product(strangers(address), sendings(address)):
                if (route, method) in unknown:
                    continue
                with transaction.atomic():
                    answer = stranger.generic(method, address, **sent)
                    canaries = told_by(answer)
                    transaction.set_rollback(True)
                if answer.status_code == UNKNOWN_METHOD:
                    unknown.add((route, method))
                canaries -= asked_for(address, sent)
                canaries -= SHARED_ON_PURPOSE if any(token in address for token in shared) else set()
                if canaries:
                    told[method, address, str(sent)[:80]] = canaries
    assert told == {}
    written = caplog.text + "".join(capfd.readouterr())
    assert "canary-" not in written
    assert not any(token in line for line in written_lines(caplog) for token in shared)
    mails = [message for message in mail.outbox if "alice" not in str(message.to)]
    assert not any(CANARY.search((message.subject + message.body).encode()) for message in mails)


def written_lines(caplog):
    """The log as the site's own formatter writes it."""
    formatter = LineFormatter()
    return [formatter.format(record) for record in caplog.records]
