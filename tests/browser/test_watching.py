"""Watching a composition in the real browser: everything once and in order, whatever breaks on the way."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.accessibility import require_accessible
from tests.browser.layout_shift import SHIFT_MAX, count_layout_shifts, layout_shift
from tests.browser.test_journey import sign_up
from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

TASK = settings.BASE_DIR / "demo" / "bundle" / "tasks" / "fruit-upper"
LONG = {
    "method": "exact",
    "search": "ngopt",
    "budget": 5000,
    "baselines": "none",
}  # minutes, until it is stopped
SHORT = {"method": "exact", "search": "adam", "budget": 120}
AGAIN_MS = 120_000  # a lease that runs out, a sweep, and a launcher that imports torch
DONE_MS = 180_000
TRIED_ALONE = re.compile(r"^\d+ modules tried alone, best first\.")  # the library grows with other tests
STEPS = "rows => rows.map((row) => Number(row.firstElementChild.textContent)).reverse()"


@dataclass
class Owner:
    """A signed-in visitor with a composition to watch."""

    context: BrowserContext
    page: Page
    address: str

    def tab(self) -> Page:
        page = self.context.new_page()
        page.goto(self.address)
        return page


class CuttableProxy:
    """A line between the browser and the site that can be cut; an open answer breaks off in the middle."""

    def __init__(self, port: int) -> None:
        self.site, self.ends, self.is_cut = port, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                near, _ = self.listener.accept()
                if self.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.site))
                self.ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(source, target), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self.is_cut = True
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False


@pytest.fixture
def line(hub: Hub) -> Iterator[CuttableProxy]:
    line = CuttableProxy(hub.port)
    yield line
    line.cut()
    line.listener.close()


@pytest.fixture
def watch(browser: Browser, hub: Hub) -> Iterator[Callable[..., Owner]]:
    """Ask for a composition as a new user and open its page; whatever is left of it is cancelled."""
    opened: list[Owner] = []

    def open_page(name: str, asked: dict[str, Any], **options: Any) -> Owner:
        wide = {"base_url": hub.address, "viewport": {"width": 1440, "height": 900}}
        context = browser.new_context(**(wide | options))
        page = context.new_page()
        sign_up(page, name)
        owner = Owner(context, page, ask(page, asked))
        opened.append(owner)
        page.goto(owner.address)
        return owner

    yield open_page
    for owner in opened:
        post(owner.page, f"/api/v1{owner.address}cancel", {})
        owner.context.close()


def post(page: Page, address: str, body: dict[str, Any]) -> dict[str, Any]:
    """As a script of the page would, with its session."""
    token = next(c["value"] for c in page.context.cookies() if c["name"] == "csrftoken")
    headers = {"X-CSRFToken": token, "Referer": page.url}
    answer = page.request.post(address, data=body, headers=headers)
    return answer.json()


def ask(page: Page, asked: dict[str, Any]) -> str:
    lines = (TASK / "shots-0.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = (TASK / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    body = {
        "name": "Fruit in capitals",
        "examples": [json.loads(line) for line in lines],
        "held_out": [json.loads(line) for line in held_out],
        **asked,
    }
    return f"/compositions/{post(page, '/api/v1/compositions', body)['id']}/"


def steps_on(page: Page) -> list[int]:
    """The steps in the chart's table, oldest first."""
    return page.locator("[data-steps] tr").evaluate_all(STEPS)


def wait_for_step(page: Page, number: int, timeout_ms: float = 60_000) -> None:
    page.wait_for_function(
        "number => document.querySelectorAll('[data-steps] tr').length >= number",
        arg=number,
        timeout=timeout_ms,
    )


def wait_for_more(page: Page, timeout_ms: float = 60_000) -> None:
    """Some steps beyond those that are there now."""
    wait_for_step(page, len(steps_on(page)) + 3, timeout_ms)


def require_every_step_once_in_order(page: Page) -> None:
    steps = steps_on(page)
    assert steps == list(range(1, len(steps) + 1))


def finish(page: Page) -> None:
    expect(page.locator("[data-finished]")).to_be_visible(timeout=DONE_MS)


def mark(page: Page) -> None:
    """So that a page that loads itself again is found out."""
    page.evaluate("window.isTheSamePage = true")


def is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.isTheSamePage === true"))


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop and keep the best").click()


def test_everything_is_told_once_and_the_end_leads_to_the_report_without_a_jump(watch):
    owner = watch("wendy", SHORT)
    page = owner.page
    mark(page)
    page.get_by_text("Log", exact=True).click()
    finish(page)
    assert is_the_same(page)
    assert page.title().startswith("Done: ")
    require_every_step_once_in_order(page)
    told = page.request.get(f"{owner.address}events/?after=0").json()["events"]
    assert [f" {event['said']}" for event in told] == page.locator("[data-log] li").evaluate_all(
        "lines => lines.map((line) => line.lastChild.textContent)"
    )
    expect(page.locator("[data-loss] canvas")).to_be_visible()
    expect(page.locator("[data-weights] .rows__value").first).to_be_visible()
    expect(page.get_by_text(TRIED_ALONE)).to_be_visible()
    expect(page.locator("#found").get_by_text("This composition").first).to_be_visible()
    page.get_by_role("link", name="Read the report").click()
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()
    page.goto("/compositions/")
    page.go_back()  # the finished one is its report, and stays so
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()


@pytest.mark.parametrize(("name", "width"), [("wiebke", 1440), ("winni", 390)])
def test_nothing_moves_below_what_is_read_while_it_runs_and_when_it_ends(watch, name, width):
    owner = watch(name, SHORT)
    owner.page.set_viewport_size({"width": width, "height": 900})
    count_layout_shifts(owner.page)
    owner.page.reload()
    finish(owner.page)
    expect(owner.page.locator(".verdict")).to_be_visible()
    assert layout_shift(owner.page) <= SHIFT_MAX


def test_who_leaves_and_comes_back_sees_everything_so_far_at_once(watch):
    owner = watch("wilma", LONG)
    wait_for_step(owner.page, 5)
    owner.page.goto("/modules/")
    owner.page.go_back()
    wait_for_step(owner.page, 5)
    require_every_step_once_in_order(owner.page)
    expect(owner.page.get_by_text(TRIED_ALONE)).to_be_visible()


def test_two_tabs_tell_the_same_and_a_stop_in_one_shows_in_the_other(watch):
    owner = watch("walter", LONG)
    other = owner.tab()
    for page in (owner.page, other):
        wait_for_step(page, 3)
        mark(page)
    stop(owner.page)
    expect(other.get_by_role("button", name="Stop and keep the best")).to_be_hidden()
    for page in (owner.page, other):
        finish(page)
        require_every_step_once_in_order(page)
    assert is_the_same(other)
    assert steps_on(owner.page) == steps_on(other)


def test_a_lost_connection_is_said_and_nothing_is_missed(line, watch):
    owner = watch("wanja", LONG, base_url=line.address)
    page = owner.page
    wait_for_step(page, 3)
    mark(page)
    line.cut()
    expect(page.get_by_text("The connection is lost.")).to_be_visible()
    line.mend()
    wait_for_more(page)
    expect(page.get_by_text("The connection is lost.")).to_be_hidden()
    require_every_step_once_in_order(page)
    assert is_the_same(page)


def test_the_page_goes_on_when_the_web_server_was_killed_and_is_back(watch, hub):
    owner = watch("wim", LONG)
    page = owner.page
    wait_for_step(page, 3)
    mark(page)
    os.kill(hub.pid("web"), signal.SIGKILL)
    wait_for_more(page, AGAIN_MS)
    require_every_step_once_in_order(page)
    assert is_the_same(page)


def test_the_page_goes_on_when_the_worker_was_killed_and_another_takes_over(watch, hub):
    owner = watch("wolf", LONG)
    page = owner.page
    wait_for_step(page, 20)
    mark(page)
    page.get_by_text("Log", exact=True).click()
    os.kill(hub.pid("worker-compose"), signal.SIGKILL)
    expect(page.get_by_text("Resumed by a worker.")).to_be_visible(timeout=AGAIN_MS)
    wait_for_more(page, AGAIN_MS)
    require_every_step_once_in_order(page)
    stop(page)
    finish(page)
    require_every_step_once_in_order(page)


def test_what_was_cancelled_before_its_first_step_shows_no_empty_charts(watch, hub):
    worker = psutil.Process(hub.pid("worker-compose"))
    worker.suspend()
    try:
        owner = watch("wotan", LONG)
        expect(owner.page.get_by_text("Starts with the search.")).to_be_visible()
        post(owner.page, f"/api/v1{owner.address}cancel", {})  # in another tab, as it were
        finish(owner.page)
        expect(owner.page.get_by_text("Starts with the search.")).to_be_hidden()
    finally:
        worker.resume()


def test_without_server_sent_events_the_page_asks_instead(watch):
    owner = watch("wenzel", LONG)
    page = owner.page
    page.add_init_script("delete window.EventSource")
    streams = []
    page.on("request", lambda request: streams.append(request.url) if "/stream/" in request.url else None)
    page.reload()
    wait_for_step(page, 3)
    wait_for_more(page)
    stop(page)
    finish(page)
    require_every_step_once_in_order(page)
    assert streams == []


def test_a_stream_that_a_proxy_holds_back_is_given_up_for_asking(watch):
    owner = watch("wulf", LONG)
    page = owner.page
    page.route("**/stream/*", lambda route: None)  # never answered
    page.reload()
    wait_for_step(page, 3)
    require_every_step_once_in_order(page)


def test_without_a_script_the_page_shows_what_was_found_and_becomes_the_report_by_itself(watch):
    owner = watch("willi", SHORT, java_script_enabled=False)
    page = owner.page
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible(timeout=DONE_MS)


def test_the_page_is_accessible_while_it_runs(watch):
    owner = watch("wanda2", LONG)
    wait_for_step(owner.page, 3)
    require_accessible_at_every_width(owner.page)


def test_the_page_is_accessible_when_it_has_ended_with_everything_unfolded(watch):
    owner = watch("wanda3", SHORT)  # of few steps: axe looks at every row
    finish(owner.page)
    for summary in owner.page.locator("main summary").all():
        summary.click()
    require_accessible_at_every_width(owner.page)


def require_accessible_at_every_width(page: Page) -> None:
    for width in (390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        require_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_moves_for_who_wants_no_motion(watch):
    duration = "getComputedStyle(document.querySelector('[data-weights] rect')).transitionDuration"
    owner = watch("wunibald", LONG, reduced_motion="reduce")
    owner.page.wait_for_selector("[data-weights] rect", state="attached")
    assert set(owner.page.evaluate(duration).split(", ")) == {"0s"}


def test_a_stranger_finds_no_page(watch, browser, hub):
    owner = watch("wibke", LONG)
    context = browser.new_context(base_url=hub.address)
    stranger = context.new_page()
    sign_up(stranger, "charlie")
    for path in ("", "stream/", "events/", "progress/"):
        assert stranger.request.get(f"{owner.address}{path}").status == 404
    context.close()
