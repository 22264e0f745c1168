"""Trying modules and compositions in the real browser, with the real worker, also when that is in trouble."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from hub_site.embedded.processes import wait_for
from tests.browser.accessibility import require_accessible
from tests.browser.test_accessibility import DESK, PHONE, sign_in
from tests.browser.test_journey import REPORT_TIMEOUT_MS, compose
from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

MODULE = "/demo/upper"
COLD_TIMEOUT_MS = 60_000  # the worker's launcher may still import torch


@pytest.fixture
def demo(page: Page, hub: Hub) -> Page:
    """A page of the demo account, which may ask more often than a visitor."""
    account = (hub.folder.root / "demo-account.txt").read_text(encoding="utf-8")
    sign_in(page, "demo", account.strip().partition("=")[2])
    return page


def open_box(page: Page, address: str = MODULE) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="Try it")).to_be_visible()


def ask(page: Page, text: str) -> None:
    page.get_by_label("Input", exact=True).fill(text)
    page.get_by_role("button", name="Run", exact=True).click()


def expect_answer(page: Page, text: str, base: str) -> None:
    ours, alone = page.locator(".try__answer-text blockquote").all_inner_texts() if shown(page) else ("", "")
    assert (ours, alone) == (text, base)


def shown(page: Page) -> bool:
    expect(page.locator(".try__result")).to_be_visible(timeout=COLD_TIMEOUT_MS)
    return True


def resident(hub: Hub) -> psutil.Process:
    """The process in which the base stays loaded."""
    worker = psutil.Process(hub.pid("worker-try"))
    (launcher,) = [child for child in worker.children() if "composer.playground.child" in child.cmdline()]
    (loaded,) = launcher.children()
    return loaded


@contextmanager
def paused(process: psutil.Process) -> Iterator[psutil.Process]:
    """So that a question is in the middle for as long as we look at it."""
    process.suspend()
    try:
        yield process
    finally:
        if process.is_running():
            process.resume()


@contextmanager
def visitor(browser: Browser, hub: Hub, **options) -> Iterator[Page]:
    context: BrowserContext = browser.new_context(base_url=hub.address, **options)
    yield context.new_page()
    context.close()


def test_a_visitor_tries_an_example_on_a_modules_page(page: Page):
    open_box(page)
    page.get_by_role("button", name=": hat").click()
    expect_answer(page, "HAT", "hat")
    expect(page.get_by_label("Input", exact=True)).to_have_value(": hat")
    expect(page.get_by_text("Expected: HAT")).to_be_visible()
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        require_accessible(page)


def test_the_box_is_used_by_keyboard_with_a_template_that_the_answer_shows(demo: Page):
    open_box(demo)
    demo.get_by_label("Input", exact=True).fill("drill")
    demo.keyboard.press("Tab")
    while demo.evaluate("document.activeElement.tagName") != "SUMMARY":
        demo.keyboard.press("Tab")
    demo.keyboard.press("Enter")
    demo.keyboard.press("Tab")
    expect(demo.get_by_label("Template", exact=False)).to_be_focused()
    demo.keyboard.press("Control+A")
    demo.keyboard.type(": {input}")
    demo.keyboard.press("Tab")
    demo.keyboard.press("Tab")
    demo.keyboard.press("Enter")
    expect_answer(demo, "DRILL", "drill")
    expect(demo.locator(".try__result")).to_contain_text(": drill")


def test_a_report_answers_prompts_of_its_owner(demo: Page):
    demo.goto("/")
    compose(demo, "fruit-upper")
    demo.get_by_role("link", name="Read the report").click(timeout=REPORT_TIMEOUT_MS)
    demo.get_by_role("navigation", name="Details").get_by_role("link", name="Try it").click()
    expect(demo.get_by_role("heading", name="Try it")).to_be_visible()
    demo.locator(".try__examples button").first.click()
    shown(demo)
    assert demo.locator(".try__answer-text--composed blockquote").inner_text().isupper()
    require_accessible(demo)


def test_a_double_click_asks_once(demo: Page, hub: Hub):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    asked: list[str] = []
    demo.on("request", lambda request: asked.append(request.method) if request.method == "POST" else None)
    with paused(resident(hub)):
        demo.get_by_role("button", name="Run", exact=True).dblclick()
        expect(demo.get_by_text("Answering…")).to_be_visible()
    expect_answer(demo, "HAT", "hat")
    assert len(asked) == 1


def test_one_question_too_many_is_said_once_and_the_one_that_waits_is_still_answered(demo: Page, hub: Hub):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    with paused(resident(hub)):
        for words, standing in (
            (": hat", "Answering…"),
            (": sock", "1 ahead in queue."),
            (": shoe", "2 ahead in queue."),
            (": shirt", "3 ahead in queue."),
        ):
            ask(demo, words)
            expect(demo.locator("#try-answer")).to_contain_text(standing)
        said = demo.locator("#try .notice, .toast")
        for words in (": rake", ": axe"):
            ask(demo, words)
            expect(said).to_have_count(1)
            expect(said).to_contain_text("Ask again when some are answered.")
        expect(demo.locator("#try-answer")).to_contain_text("3 ahead in queue.")
        require_accessible(demo)
    expect_answer(demo, "SHIRT", "shirt")
    expect(said).to_have_count(0)


def test_two_people_at_once_are_told_who_is_first(demo: Page, hub: Hub, browser: Browser):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    with visitor(browser, hub) as second:
        open_box(second)
        with paused(resident(hub)):
            ask(demo, ": sock")
            expect(demo.get_by_text("Answering…")).to_be_visible()
            ask(second, ": shirt")
            expect(second.get_by_text("1 ahead in queue.")).to_be_visible()
        expect_answer(second, "SHIRT", "shirt")
        expect_answer(demo, "SOCK", "sock")


def test_a_child_killed_in_the_middle_is_said_and_the_next_question_is_answered(demo: Page, hub: Hub):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    with paused(resident(hub)) as child:
        ask(demo, ": sock")
        expect(demo.get_by_text("Answering…")).to_be_visible()
        child.kill()
        expect(demo.get_by_role("alert")).to_contain_text("crashed over this question")
    ask(demo, ": sock")
    expect_answer(demo, "SOCK", "sock")
    expect(demo.get_by_text("The base model was loaded first.")).to_be_visible()


def test_a_worker_killed_in_the_middle_is_said_and_another_one_answers(demo: Page, hub: Hub):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    worker = hub.pid("worker-try")
    with paused(resident(hub)):
        ask(demo, ": sock")
        expect(demo.get_by_text("Answering…")).to_be_visible()
        psutil.Process(worker).send_signal(signal.SIGKILL)
        expect(demo.get_by_role("alert")).to_contain_text(
            "The worker that was answering stopped", timeout=40_000
        )
    assert wait_for(lambda: hub.pid("worker-try") != worker, timeout_s=60)
    ask(demo, ": sock")
    expect_answer(demo, "SOCK", "sock")


def test_a_lost_connection_is_said_once_and_the_answer_comes_when_it_is_back(
    hub: Hub, browser: Browser, demo: Page
):
    open_box(demo)
    ask(demo, ": hat")
    shown(demo)
    with visitor(browser, hub) as page:
        open_box(page)
        with paused(resident(hub)):
            ask(page, ": sock")
            expect(page.get_by_text("Answering…")).to_be_visible()
            page.context.set_offline(True)
            expect(page.locator(".toast")).to_contain_text("did not answer")
            page.wait_for_event("requestfailed")
            assert page.locator(".toast").count() == 1
            page.context.set_offline(False)
        expect_answer(page, "SOCK", "sock")
        expect(page.locator(".toast")).to_have_count(0)  # what it said is not so any more


def test_without_scripts_the_box_has_a_page_of_its_own(hub: Hub, browser: Browser):
    with visitor(browser, hub, java_script_enabled=False) as page:
        page.goto(MODULE)
        page.get_by_role("main").locator("#try").get_by_role("link", name="Try it").click()
        expect(page).to_have_url(re.compile(r"/try/modules/demo/upper/v1/$"))
        ask(page, ": hat")
        expect(page).to_have_url(re.compile(r"/try/[0-9a-f-]{36}/$"))
        expect_answer(page, "HAT", "hat")
