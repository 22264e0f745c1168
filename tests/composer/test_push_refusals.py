"""`push_to_hub` where a Hub says no: a ComposeError that says what to do, the client's error as its cause."""

import json
import shutil
from pathlib import Path

import pytest
from django.conf import settings

import composer
from composer.core.modules.sources import Source
from composer.library.composition import ADAPTER_FILES, Composition
from composer.library.hub_refusals import refusal_text
from hub_site.accounts.services import token_create
from modules_registry.selectors import module_find
from tests.faulty_hub import faulty_hub, status
from tests.served_site import free_port, served_site

UPPER = Path(settings.HUB_DEMO_BUNDLE) / "modules" / "upper"


@pytest.fixture
def made(tmp_path):
    """A composition as `compose` leaves it, of a base that a Hub knows."""
    folder = tmp_path / "made"
    folder.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(UPPER / name, folder / name)
    report = {"licence": {"conflict": ""}, "baselines": [], "base": {"name": "demo/tiny-t5", "revision": ""}}
    (folder / "report.json").write_text(json.dumps(report))
    return Composition(folder, Source("demo/tiny-t5", folder, "1" * 40))


@pytest.fixture
def refused(made, monkeypatch):
    """What is said of a push that fails."""

    def push(endpoint, name="alice/made", token="lh_none"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(composer.ComposeError) as refusal:
            made.push_to_hub(name, token=token)
        assert refusal.value.code == "not_pushed"
        assert refusal.value.__cause__ is not None
        return str(refusal.value)

    return push


@pytest.mark.django_db(transaction=True)
def test_this_site_s_refusals_say_what_to_do(refused, alice, bob, settings):
    tokens = {scope: token_create(user=alice, label=scope, scope=scope)[1] for scope in ("read", "write")}
    with served_site(settings.HUB_DATA) as site:
        for nobody in ("lh_none", ""):
            assert "Give an access token that may write: token=…" in refused(site.address, token=nobody)
        said = refused(site.address, token=tokens["read"])
        assert "does not let this access token write to alice/made" in said
        assert "Use a token with the permission to write" in said
        assert "write to bob/made" in refused(site.address, "bob/made", tokens["write"])
    assert module_find("alice", "made") is None


@pytest.mark.parametrize("name", ["a b", "a/b/c", "x--y/z", "..", "-a/b", "alice/", "", f"a/{'x' * 100}"])
def test_what_cannot_be_a_name_is_refused_before_a_hub_is_asked(refused, name):
    with faulty_hub() as hub:
        assert f"{name!r} cannot be the name of a repository. Write owner/name" in refused(hub.endpoint, name)
        assert hub.asked == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "refused the upload to alice/made"),
        (401, "Give an access token"),
        (403, "does not let this access token write to alice/made"),
        (404, "shows this access token no repository alice/made"),
        (413, "refused the upload to alice/made"),
    ],
)
def test_an_answer_of_any_hub_is_told_in_a_sentence(refused, code, words):
    with faulty_hub() as hub:
        hub.spoil("POST", "/api/repos/create", status(code), times=9)
        said = refused(hub.endpoint)
    assert words in said
    assert "\n" not in said


def test_a_hub_that_is_busy_or_broken_is_waited_for():
    said = [refusal_text(code, "alice/made", "https://hub", "Come\n later.") for code in (429, 500, 503)]
    assert said == [
        "https://hub takes no more for now: Come later. Wait a while and push again.",
        "https://hub has a fault of its own (500): Come later. Push again later.",
        "https://hub has a fault of its own (503): Come later. Push again later.",
    ]


def test_a_hub_that_is_not_there_is_told(refused):
    said = refused(f"http://127.0.0.1:{free_port()}")
    assert "could not be pushed to http://127.0.0.1:" in said
    assert "Check the network and the address in HF_ENDPOINT" in said
