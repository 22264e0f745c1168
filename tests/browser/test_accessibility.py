"""No page has a violation of WCAG 2.2 AA that axe can see, in either theme, wide or on a phone."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import require_accessible, violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


def test_the_search_that_finds_nothing_is_accessible(page: Page):
    require_accessible_at_every_width(page, "/modules/?q=nothing+like+it")


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
