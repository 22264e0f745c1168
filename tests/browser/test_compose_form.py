"""What only a script does on the compose form."""

import pytest
from playwright.sync_api import Page

from tests.browser.test_journey import sign_up

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASTE = """(cell, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    cell.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""


def test_a_block_pasted_into_the_grid_leaves_its_header_behind(page: Page):
    sign_up(page, "paula")
    page.goto("/compositions/new/")
    first = page.locator("[name=shots_input]").first
    first.evaluate(PASTE, "id\tAnswer\tQuestion\n1\trouge\tred\n2\tvert\tgreen\n")
    assert cells(page, "shots_input")[:3] == ["red", "green", ""]
    assert cells(page, "shots_output")[:3] == ["rouge", "vert", ""]


def cells(page: Page, name: str) -> list[str]:
    return page.locator(f"[name={name}]").evaluate_all("cells => cells.map((cell) => cell.value)")
