"""What is private is in no answer that a stranger gets, in no log and in no mail."""

import logging
import re
from itertools import product
from urllib.parse import quote

import pytest
from django.core import mail
from django.test import Client
from rest_framework.test import APIClient

from composer.core.spec.examples import Example
from composer.request.drafts import draft_keep
from composer.share.services import share_renew
from hub_site.accounts.services import organization_create, token_create
from modules_registry.importing.services import import_request
from tests.attacks.test_hostile_requests import ADDRESSES, WHATEVER_IS_THERE
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401
from tests.factories import card_file, make_module

pytestmark = [pytest.mark.django_db, pytest.mark.slow]  # every address, for every kind of stranger

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


def test_no_stranger_is_told_anything_private(real, bob, caplog):
    mail.outbox.clear()
    signed_in, program = Client(), APIClient()
    signed_in.force_login(bob)
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {token_create(user=bob, label='x', scope='write')[1]}")
    told = {}
    with caplog.at_level(logging.INFO):
        for address in (each for route in ADDRESSES for each in filled(route, real)):
            for stranger in (Client(), program if address.startswith("/api/") else signed_in):
                canaries = told_by(stranger.get(address))
                canaries -= {NAME.encode()} if NAME in address else set()
                canaries -= SHARED_ON_PURPOSE if str(real["token"][0]) in address else set()
                if canaries:
                    told[address] = canaries
    assert told == {}
    assert "canary" not in caplog.text
    assert not any("canary" in message.subject + message.body for message in mail.outbox)
