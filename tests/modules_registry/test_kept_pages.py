"""Pages kept for strangers: rendered once, and never after what they show was changed."""

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hub_site.accounts.services import account_suspend
from hub_site.audit.kept_pages import KEPT_MAX_BYTES, KeptPage, KeptPages, kept_pages
from hub_site.audit.models import AuditEntry
from modules_registry.holds import module_quarantine
from modules_registry.models import Module
from modules_registry.repositories import repository_move
from modules_registry.services import module_delete, module_edit
from tests.factories import make_module
from tests.modules_registry.hub_api.test_refusals import CARD, Uploader, file_line

pytestmark = pytest.mark.django_db
PAGES = ("/alice/french", "/modules/", "/alice", "/tags/french/")
ANSWERS = ("/api/models/alice/french", "/api/models/alice/french/tree/main", "/api/models?search=french")


@pytest.fixture(autouse=True)
def kept(settings):
    settings.HUB_PAGES_KEPT_S = 30
    kept_pages.__init__()


def rendered_queries(client, address):
    with CaptureQueriesContext(
        connection,
    ) as asked:
        response = client.get(address)
    return response, len(asked)


@pytest.mark.parametrize("address", [*PAGES, *ANSWERS, "/"])
def test_a_page_is_rendered_once_for_all_strangers(client, french, address):
    first, _ = rendered_queries(client, address)
    second, n_queries = rendered_queries(client, address)
    assert first.status_code == second.status_code == 200
    assert second.content == first.content
    assert n_queries == 1
    assert second["Content-Type"] == first["Content-Type"]
    assert "Cookie" in second["Vary"]
    assert second["Content-Security-Policy"]
    assert second["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda module, alice, staff: module_edit(editor=alice, module=module, private=True), 404),
        (lambda module, alice, staff: module_quarantine(staff=staff, module=module, reason="x"), 404),
        (lambda module, alice, staff: module_delete(editor=alice, module=module), 404),
        (lambda module, alice, staff: account_suspend(staff=staff, account=alice, reason="x"), 404),
        (
            lambda module, alice, staff: repository_move(
                editor=alice, module=module, namespace=alice.namespace, name="into-french"
            ),
            302,
        ),
    ],
    ids=["made private", "held", "deleted", "suspended", "renamed"],
)
def test_what_is_no_longer_there_is_gone_at_once(client, french, alice, staff, change, status):
    lists = [page for page in PAGES if page != "/alice/french"]
    for address in PAGES:
        assert b"french" in client.get(address).content
    change(Module.objects.get(pk=french.pk), alice, staff)
    assert client.get("/alice/french").status_code == status
    for address in lists:
        assert b'href="/alice/french"' not in client.get(address).content


def test_an_answer_of_the_protocol_shows_a_commit_at_once(client, french, alice):
    before = [client.get(address).content for address in ANSWERS]
    card = b"---\ntags: [other]\n---\nOther words, and french ones.\n"
    assert Uploader(alice).commit(file_line(CARD, card)).status_code == 200
    after = [client.get(address).content for address in ANSWERS]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert client.get(ANSWERS[0]).json()["sha"] == Module.objects.get(pk=french.pk).current.commit_id


def test_an_answer_of_the_protocol_to_a_token_is_not_kept(client, french, alice, api_of):
    module_edit(editor=alice, module=french, private=True)
    assert api_of(alice).get(ANSWERS[0]).status_code == 200
    assert client.get(ANSWERS[0]).status_code == 404
    assert not kept_pages.pages


def test_what_is_new_shows_at_once(client, french, alice):
    assert b"/alice/spanish" not in client.get("/modules/").content
    make_module(alice, "spanish", seed=1)
    assert b"/alice/spanish" in client.get("/modules/").content
    assert b"Says it" not in client.get("/alice/french").content
    module_edit(editor=alice, module=french, sentence="Says it.")
    assert b"Says it" in client.get("/alice/french").content


def test_a_change_that_is_committed_after_a_later_one_shows_too(client, french):
    """Its entry has the smaller number, so that the largest number tells nothing of it."""
    late, early = (AuditEntry(action="module.edit", subject="x") for _ in range(2))
    last = AuditEntry.objects.latest("pk").pk
    late.pk, early.pk = last + 2, last + 1
    late.save(force_insert=True)
    client.get("/alice/french")
    Module.objects.filter(pk=french.pk).update(private=True)
    early.save(force_insert=True)
    assert client.get("/alice/french").status_code == 404


def test_nobody_who_is_known_gets_or_leaves_a_kept_page(client, french, alice, bob, browser_of, api_of):
    mine = browser_of(alice).get("/alice/french").content
    assert b'/alice/french/edit"' in mine
    assert b'/alice/french/edit"' not in client.get("/alice/french").content
    assert b"bob" in browser_of(bob).get("/alice/french").content
    with_token = api_of(alice).get("/alice/french")
    assert with_token.status_code == 200
    assert len(kept_pages.pages) == 1


def test_addresses_hosts_and_fragments_have_pages_of_their_own(client, french):
    one = client.get("/modules/?q=french").content
    other = client.get("/modules/?q=nothing-like-it").content
    assert one != other
    client.get("/modules/?q=french", headers={"HX-Request": "true", "HX-Target": "library"})
    client.get("/alice/french", headers={"Host": "localhost"})
    at_home = client.get("/alice/french").content
    assert b"http://testserver" in at_home
    assert b"http://localhost" not in at_home
    assert len(kept_pages.pages) == 5


def test_nothing_but_whole_pages_is_kept(client, french, settings):
    assert client.get("/alice/nothing").status_code == 404
    assert client.get("/ALICE/french").status_code == 302
    assert client.head("/alice/french").status_code == 200
    assert not kept_pages.pages
    client.get(f"/modules/?q={'x' * 600}")
    settings.HUB_PAGES_KEPT_S = 0
    client.get("/alice/french")
    assert not kept_pages.pages


def test_a_kept_page_lasts_for_its_time(client, french):
    client.get("/alice/french")
    Module.objects.filter(pk=french.pk).update(likes=7123)
    assert b"7,123" not in client.get("/alice/french").content
    [key] = kept_pages.pages
    page = kept_pages.pages[key]
    kept_pages.pages[key] = replace(page, at_s=page.at_s - 31)
    assert b"7,123" in client.get("/alice/french").content


def test_the_pages_read_last_stay_within_the_bound():
    pages = KeptPages()
    page = KeptPage(bytes(KEPT_MAX_BYTES // 4), {}, (), 0.0)
    for number in range(4):
        pages.keep((number,), page)
    pages.pages.move_to_end((0,))
    pages.keep((4,), page)
    assert set(pages.pages) == {(0,), (2,), (3,), (4,)}
    assert pages.size_bytes == 4 * len(page.content)
