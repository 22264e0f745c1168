"""Every page: accessible in both themes, whole at 320 px, and used by the keyboard alone."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.accessibility import require_accessible, require_reachable_by_keyboard, require_whole
from tests.browser.every_page import PAGES, VISITOR, Visit, World, make_world
from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
NARROWEST = {"width": 320, "height": 844}  # px: WCAG 1.4.10, a desk's page enlarged to 400 %


@pytest.fixture(scope="module")
def world(hub: Hub, browser: Browser) -> World:
    return make_world(hub, browser)


@pytest.fixture(scope="module", params=PAGES)
def opened(request: pytest.FixtureRequest, hub: Hub, browser: Browser, world: World) -> Iterator[Page]:
    """A page as who looks at it, once for all tests of it. A script that breaks, or a policy that is
    violated, fails the last of them."""
    visit: Visit = PAGES[request.param]
    complaints = list[str]()
    cookies = None if visit.who == VISITOR else world.cookies[visit.who]
    context = browser.new_context(base_url=hub.address, viewport=DESK, storage_state=cookies)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    answer = page.goto(world.address(visit))
    assert answer is not None
    assert answer.status == 200, world.address(visit)
    page.wait_for_load_state("networkidle")
    yield page
    context.close()
    assert complaints == []


def test_everything_on_a_page_is_reached_by_the_keyboard_and_shows_that_it_is(opened):
    opened.set_viewport_size(DESK)
    require_reachable_by_keyboard(opened)


def test_a_page_is_accessible_in_both_themes_on_a_desk_and_on_a_phone(opened):
    for size in (DESK, PHONE):
        opened.set_viewport_size(size)
        require_accessible(opened)


def test_a_page_is_whole_at_320_pixels_and_no_word_is_broken(opened):
    opened.set_viewport_size(NARROWEST)
    require_whole(opened)
