"""Cards of a list are kept for a minute, and never after what they show was changed."""

import pytest
from django.core.cache import caches

from modules_registry.models import Module, Version
from modules_registry.popularity import module_like
from modules_registry.services import module_edit
from tests.factories import config_file, make_base, make_module

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


def test_a_card_shows_at_once_that_its_base_came_or_has_another_name(client, alice, tmp_path):
    make_module(alice, "early", config_file=config_file(base_model_name_or_path="TESTS/Tiny"))
    page = client.get("/modules/").content.decode()
    assert "not composable here" in page
    assert '<span class="mono">TESTS/Tiny</span>' in page
    make_base(tmp_path / "base")  # the modules that named it are checked against it
    page = client.get("/modules/").content.decode()
    assert "not composable here" not in page
    assert '<span class="mono">tests/tiny</span>' in page


def test_a_card_shows_at_once_that_its_base_went(client, base, alice):
    module = make_module(alice)
    assert "not composable here" not in client.get("/modules/").content.decode()
    Version.objects.filter(pk=module.current_id).update(base=None)
    assert "not composable here" in client.get("/modules/").content.decode()


def test_a_card_shows_at_once_the_sample_that_was_read_anew(client, french):
    client.get("/modules/")
    Module.objects.filter(pk=french.pk).update(sample_input="cat", sample_output="chat noir")
    assert "chat noir" in client.get("/modules/").content.decode()


def test_two_modules_have_two_cards(client, french, alice):
    make_module(alice, "spanish", seed=1)
    page = client.get("/modules/").content
    assert b'href="/alice/french"' in page
    assert b'href="/alice/spanish"' in page
