"""No page is forgotten by the tests that look at every page in a browser."""

import csv

from tests.access.test_matrix import MATRIX
from tests.browser.every_page import NO_PAGES, PAGES


def test_every_address_is_looked_at_or_is_no_page():
    with MATRIX.open(newline="") as file:
        asked = {row["address"] for row in csv.DictReader(file) if row["method"] == "GET"}
    pages = {address for address in asked if not address.startswith("/api/")}
    pages |= {address for address in asked if address.startswith("/api/docs/")}
    assert pages == {*PAGES, *NO_PAGES}
    assert not set(PAGES) & set(NO_PAGES)
