"""What every answer carries, and what is kept by no cache."""

import pytest

from hub_site.common.security_headers import SECURITY_HEADERS
from hub_site.settings.env import SettingError, env_contact

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "address", ["/", "/nowhere", "/api/v1/modules", "/api/v1/nowhere", "/api/models", "/health/"]
)
def test_every_answer_has_the_headers(client, address):
    headers = client.get(address).headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_no_cache_keeps_what_a_known_person_is_answered(client, browser_of, api_of, alice):
    for asker in (browser_of(alice), api_of(alice)):
        for address in ("/modules/", "/api/v1/modules"):
            assert "no-store" in asker.get(address).headers["Cache-Control"]
    assert "no-store" not in client.get("/modules/").headers.get("Cache-Control", "")


def test_security_txt_names_the_contact_and_ends(client, settings):
    settings.HUB_SECURITY_CONTACT = "mailto:security@example.org"
    answer = client.get("/.well-known/security.txt")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    lines = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert lines["Contact"] == "mailto:security@example.org"
    assert lines["Expires"].endswith("Z")


def test_without_a_contact_security_txt_leads_to_the_help_that_says_how_to_tell_the_staff(client, settings):
    lines = dict(line.split(": ", 1) for line in client.get("/.well-known/security.txt").text.splitlines())
    address, _, section = lines["Contact"].partition("#")
    assert address.startswith(settings.PUBLIC_ADDRESS)
    page = client.get(address.removeprefix(settings.PUBLIC_ADDRESS))
    assert page.status_code == 200
    assert f'id="{section}"' in page.text
    assert "Report this module" in page.text
    settings.HUB_SECURITY_CONTACT = "mailto:security@example.org"
    assert "mailto:security@example.org" in client.get("/help/").text


def test_the_contact_is_an_address(monkeypatch):
    monkeypatch.setenv("HUB_SECURITY_CONTACT", "security@example.org")
    assert env_contact("HUB_SECURITY_CONTACT") == "mailto:security@example.org"
    monkeypatch.setenv("HUB_SECURITY_CONTACT", "javascript:alert(1)")
    with pytest.raises(SettingError):
        env_contact("HUB_SECURITY_CONTACT")
