"""How much of a page moves while nobody touches it: the browser's own measure, layout shift."""

from playwright.sync_api import Page

SHIFT_MAX = 0.02  # the sum of a visit; 0.1 is what browsers call good

COUNT = """window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });"""


def count_layout_shifts(page: Page) -> None:
    """Count from the next page that is loaded on."""
    page.add_init_script(COUNT)


def layout_shift(page: Page) -> float:
    """The sum of the shifts since the page was loaded; those right after an input do not count."""
    return float(page.evaluate("window.shifted"))
