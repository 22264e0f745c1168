"""A real browser over the running system, with its real workers."""

import os
import warnings
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.chromium import CHROMIUM_OPTIONS, MISSING, chromium_path
from tests.running_hub import Hub, temporary_hub

expect.set_options(timeout=20_000)  # ms; the machine may be busy with other tests


@pytest.fixture(scope="session")
def chromium() -> str:
    path = chromium_path()
    if path is None and os.environ.get("CI"):
        pytest.fail(MISSING)
    if path is None:
        warnings.warn(MISSING, stacklevel=1)
        pytest.skip(MISSING)
    return path


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    with temporary_hub() as hub:
        hub.up()
        hub.wait_until_healthy()
        yield hub


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Of a module, not of the session: while Playwright runs, its event loop is every later test's too."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, hub: Hub) -> Iterator[Page]:
    """A fresh visitor's page. A script that breaks, or a policy that is violated, fails the test."""
    context = browser.new_context(base_url=hub.address, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert complaints == []
