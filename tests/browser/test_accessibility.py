"""No page has a violation of WCAG 2.2 AA that axe can see, in either theme, wide or on a phone."""

import pytest
from playwright.sync_api import Page, expect

from hub_site.pages.help_pages import PAGES
from tests.browser.accessibility import require_accessible, violations
from tests.browser.test_journey import sign_up
from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FOR_EVERYONE = [
    "/",
    "/modules/",
    "/modules/?q=nothing+like+it",
    "/demo/french",
    "/demo/french/weights",
    "/demo/french/similar",
    "/demo/french/compatible",
    "/demo/french/changes",
    "/demo/french/blob/main/adapter_config.json",
    "/demo/tiny-t5",
    "/demo",
    "/tags/french/",
    "/modules/compare/?id=demo/french&id=demo/spanish",
    "/find/",
    "/help/",
    "/help/?q=held-out",
    *(page.get_absolute_url() for page in PAGES.values()),
    "/limits/",
    "/accounts/login/",
    "/accounts/signup/",
]
FOR_USERS = ["/compositions/", "/compositions/new/", "/modules/new/", "/notifications/", "/settings/tokens/"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


@pytest.mark.parametrize("address", FOR_EVERYONE)
def test_a_visitors_page_is_accessible(page: Page, address):
    require_accessible_at_every_width(page, address)


def test_a_users_pages_are_accessible(page: Page):
    sign_up(page, "axel")
    for address in FOR_USERS:
        require_accessible_at_every_width(page, address)


def test_every_component_is_accessible(page: Page, hub: Hub):
    printed = hub.call("manage", "create_user", "stella", "--staff").stdout
    sign_in(page, "stella", printed.split("Password: ")[1].strip())
    require_accessible_at_every_width(page, "/styleguide/")


def test_axe_sees_what_is_wrong(page: Page):
    page.goto("/")
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert [line.split(":")[0] for line in violations(page)] == ["[light] label", "[dark] label"]


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("banner")).to_contain_text(name)


def require_accessible_at_every_width(page: Page, address: str) -> None:
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        require_accessible(page)
