"""What has to hold on a phone: tables whose cells stay whole, row numbers on one line, facts near the top."""

import pytest
from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"width": 390, "height": 844}
# Cells whose parts do not stand beside their label, or whose label is not to be seen.
TORN = """() => [...document.querySelectorAll(".table--stack td[data-label]")].filter((cell) => {
    const box = cell.getBoundingClientRect();
    const label = parseFloat(getComputedStyle(cell, "::before").marginLeft);
    const left = cell.closest("tr").getBoundingClientRect().left;
    const parts = [...cell.querySelectorAll("*")].filter((part) => part.checkVisibility());
    return box.width > 0 && (box.left + parseFloat(getComputedStyle(cell).paddingLeft) + label < left - 1
        || getComputedStyle(cell).display === "grid"
        || parts.some((part) => part.getBoundingClientRect().left < box.left - 1));
}).map((cell) => cell.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("address", ["/help/report/", "/help/operators/", "/demo/french"])
def test_the_cells_of_a_stacked_table_flow_beside_their_labels(page: Page, address: str):
    page.set_viewport_size(PHONE)
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert page.evaluate(TORN) == []


def test_the_row_numbers_of_the_examples_stand_on_one_line(page: Page):
    page.set_viewport_size(PHONE)
    page.goto("/compositions/new/")
    number = """() => {
        const style = getComputedStyle(document.querySelector(".grid tbody td"), "::before");
        const besides = [style.paddingLeft, style.paddingRight, style.borderRightWidth].map(parseFloat);
        const room = besides.reduce((left, taken) => left - taken, parseFloat(style.width));
        const pen = document.createElement("canvas").getContext("2d");
        pen.font = style.font;
        return room - pen.measureText("100").width;
    }"""
    assert page.evaluate(number) >= 0


def test_the_facts_of_a_module_come_before_its_card(page: Page):
    page.set_viewport_size(PHONE)
    page.goto("/demo/french")
    facts, card = (page.locator(name).bounding_box() for name in ("#facts", "#card"))
    assert facts is not None
    assert card is not None
    assert facts["y"] < card["y"]
    assert facts["y"] < PHONE["height"]
