"""Cards of a list are kept for a minute, and never after what they show was changed."""

import pytest
from django.core.cache import caches

from modules_registry.popularity import module_like
from modules_registry.services import module_edit
from tests.factories import make_module

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty():
    caches["fragments"].clear()
    yield
    caches["fragments"].clear()


def test_a_card_is_made_once(client, french, monkeypatch):
    first = client.get("/modules/").content
    monkeypatch.setattr("modules_registry.templatetags.registry.size_in_words", lambda size: "not again")
    assert b"not again" not in client.get("/modules/").content
    assert b"alice/" in first


def test_a_card_shows_a_change_at_once(client, french, alice, bob):
    client.get("/modules/")
    module_edit(editor=alice, module=french, sentence="Says it anew.")
    assert b"Says it anew." in client.get("/modules/").content
    module_like(user=bob, module=french)
    assert b'<span class="num">1</span>\n      like\n' in client.get("/modules/").content
    module_edit(editor=alice, module=french, tags=["gallic"])
    assert b"/modules/?tag=gallic" in client.get("/modules/").content


def test_two_modules_have_two_cards(client, french, alice):
    make_module(alice, "spanish", seed=1)
    page = client.get("/modules/").content
    assert b'href="/alice/french"' in page
    assert b'href="/alice/spanish"' in page
