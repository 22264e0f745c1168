import re
from urllib.parse import urlsplit

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.test import RequestFactory, override_settings

from demo.words import WORDS
from hub_site.body_gate import BodyGate
from hub_site.pages.styleguide import SpecimenForm
from modules_registry.demo_worlds import ENGLISH, SMALL, demo_world
from tests.factories import make_base
from tests.pages.rendered import Page

pytestmark = pytest.mark.django_db

FOR_EVERYONE = ["/", "/help/", "/limits/"]
FOR_VISITORS = [
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/password/reset/key/1-nonsense/",
    "/accounts/confirm-email/nonsense/",
    "/accounts/inactive/",
]
FOR_USERS = [
    "/accounts/logout/",
    "/accounts/password/change/",
    "/accounts/email/",
    "/accounts/reauthenticate/",
    "/settings/tokens/",
]
ERRORS = ["400", "403", "403_csrf", "404", "500"]


def is_ours(markup: str) -> bool:
    return 'class="brand"' in markup and "css/tokens.css" in markup


def require_calm(markup: str) -> None:
    """Nothing inline or from elsewhere, every static file there, every field labelled, ids used once."""
    page = Page(markup)
    assert page.inline == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.unlabelled) <= page.labels
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    for address in page.addresses:
        path = urlsplit(address).path
        assert path.startswith(settings.STATIC_URL), address
        assert finders.find(path.removeprefix(settings.STATIC_URL)), f"{address} is missing"


@pytest.mark.parametrize("address", FOR_EVERYONE + FOR_VISITORS)
def test_a_visitor_gets_a_page_of_ours(client, address):
    answer = client.get(address)
    assert answer.status_code == 200
    assert is_ours(answer.content.decode())
    require_calm(answer.content.decode())


@pytest.mark.parametrize("address", FOR_EVERYONE + FOR_USERS)
def test_a_user_gets_a_page_of_ours(browser_of, alice, address):
    answer = browser_of(alice).get(address)
    assert answer.status_code == 200
    assert is_ours(answer.content.decode())
    require_calm(answer.content.decode())


def test_the_style_guide_is_for_staff(browser_of, alice, staff):
    assert browser_of(alice).get("/styleguide/").status_code == 404
    answer = browser_of(staff).get("/styleguide/")
    assert answer.status_code == 200
    require_calm(answer.content.decode())


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_page_says_what_to_do(name):
    markup = render_to_string(f"{name}.html", request=RequestFactory().get("/"))
    assert is_ours(markup)
    assert 'class="button' in markup
    require_calm(markup)


def test_an_account_page_we_did_not_write_is_built_from_our_parts(client):
    context = {"form": SpecimenForm({}), "request_login_code_url": "/", "login_url": "/"}
    markup = render_to_string("account/request_login_code.html", context, RequestFactory().get("/"))
    assert is_ours(markup)
    assert 'class="field field--error"' in markup
    assert 'class="button button--primary"' in markup
    require_calm(markup)


@pytest.mark.parametrize("name", ["500", "not_accepted"])
def test_a_page_for_great_need_needs_no_request(name, django_assert_num_queries):
    with django_assert_num_queries(0):
        markup = render_to_string(f"{name}.html", {"status": 413, "message": "This is too large."})
    assert is_ours(markup)
    require_calm(markup)


def test_signing_out_is_a_form_not_a_link(browser_of, alice):
    markup = browser_of(alice).get("/").content.decode()
    assert re.search(r'<form method="post" action="/accounts/logout/">', markup)
    assert "/accounts/logout/" not in Page(markup).links


def test_the_current_page_is_marked_in_the_menu(client):
    assert 'aria-current="page"' not in client.get("/help/").content.decode()
    markup = client.get("/modules/").content.decode()
    assert '<a class="nav__link" href="/modules/" aria-current="page">' in markup


def test_the_limits_are_the_ones_the_site_runs_with(client):
    with override_settings(HUB_UPLOAD_MAX_MB=77, HUB_COMPOSE_DEADLINE_S=90, HUB_COMPOSE_MEMORY_MB=1234):
        markup = client.get("/limits/").content.decode()
    assert "77\u00a0MB" in markup
    assert "90 seconds" in markup
    assert "1234\u00a0MB" in markup


def test_a_message_becomes_a_toast(browser_of, alice):
    markup = browser_of(alice).post("/accounts/logout/", follow=True).content.decode()
    assert re.search(
        r'class="notice toast notice--success">\s*<div class="notice__body"><p>You are signed out', markup
    )


def test_an_upload_that_is_too_large_gets_a_page_of_ours():
    async def never_asked(scope, receive, send):
        raise AssertionError("the body should not have come this far")

    async def upload() -> dict:
        caps = {"upload_max_bytes": 10, "commit_max_bytes": 10, "in_flight_max_bytes": 10}
        gate = BodyGate(never_asked, why_not=never_asked, is_disk_low=lambda: False, **caps)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/modules/new/",
            "headers": [(b"content-length", b"11000000")],
        }
        browser = ApplicationCommunicator(gate, scope)
        start, body = await browser.receive_output(), await browser.receive_output()
        return start | body

    answer = async_to_sync(upload)()
    assert answer["status"] == 413
    assert is_ours(answer["body"].decode())
    assert b"style-src 'self'" in dict(answer["headers"])[b"content-security-policy"]


def test_the_pages_know_how_many_words_the_demo_world_has():
    assert f"of {len(WORDS)} words" in demo_world(SMALL).listing["base_sentence"]


def test_staff_are_offered_the_english_library_until_it_is_there(client, browser_of, staff, alice, tmp_path):
    offer = "./hub demo english"
    assert offer in browser_of(staff).get("/").content.decode()
    assert offer not in browser_of(alice).get("/").content.decode()
    assert offer not in client.get("/").content.decode()
    make_base(tmp_path, name=demo_world(ENGLISH).listing["base"])
    assert offer not in browser_of(staff).get("/").content.decode()


def test_a_site_without_the_english_bundle_offers_none(browser_of, staff, settings, tmp_path):
    settings.HUB_ENGLISH_BUNDLE = tmp_path / "nothing"
    assert "./hub demo english" not in browser_of(staff).get("/").content.decode()
