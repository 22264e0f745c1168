"""No page has a violation of WCAG 2.2 AA that axe can see, in either theme, wide or on a phone."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import require_accessible, violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


def test_the_search_that_finds_nothing_is_accessible(page: Page):
    require_accessible_at_every_width(page, "/modules/?q=nothing+like+it")


def test_the_suggestions_are_walked_through_by_the_arrow_keys(page: Page):
    page.goto("/modules/")
    field = page.get_by_role("main").get_by_role("searchbox")
    links = page.get_by_role("main").locator(".suggestions a")
    field.press_sequentially("an")
    expect(links.nth(1)).to_be_visible()

    page.keyboard.press("ArrowDown")
    expect(links.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(field).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(links.last).to_be_focused()
    require_accessible(page)

    page.keyboard.press("i")
    expect(field).to_be_focused()
    expect(field).to_have_value("ani")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(field).to_be_focused()
    expect(links).to_have_count(0)


def test_enter_on_a_suggestion_opens_it(page: Page):
    page.goto("/modules/")
    page.get_by_role("main").get_by_role("searchbox").press_sequentially("anim")
    first = page.get_by_role("main").locator(".suggestions a").first
    address = first.get_attribute("href")
    assert address is not None
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{address}")


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
