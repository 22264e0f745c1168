"""`./hub help-pictures`: the pictures of the help, in both themes, from a running site."""

import argparse
import base64
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from playwright.sync_api import Browser, Page, sync_playwright

from hub_site.pages.help_pages import PICTURE_HEIGHT, PICTURE_WIDTH
from tests.browser.chromium import CHROMIUM_OPTIONS, MISSING, chromium_path
from tests.browser.screenshots import FORM, SETTLED, TASK, THEMES, report, sign_up, site_at, tried, watching

FOLDER = settings.BASE_DIR / "static/img/help"
QUALITY = 80  # of WebP, in percent


def form(page: Page) -> None:
    page.goto(f"{FORM}?task={TASK}")
    page.locator("[data-grid]").evaluate("grid => scrollTo(0, grid.getBoundingClientRect().top - 260)")


def try_it(page: Page) -> None:
    tried(page)
    page.locator(".try__result").evaluate("result => result.scrollIntoView({block: 'center'})")


# In this order, in one visit: the report is that of the composition that was watched.
PICTURES: dict[str, Callable[[Page], None]] = {
    "form": form,
    "watching": watching,
    "report": report,
    "try-it": try_it,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="hub help-pictures", description=__doc__)
    parser.add_argument("--address", help="of a running site; left out: one of its own, for so long")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder of the pictures")
    arguments = parser.parse_args()
    executable = chromium_path()
    if executable is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    with site_at(arguments.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        take(browser, address, arguments.out)
        browser.close()
    return 0


def take(browser: Browser, address: str, out: Path) -> None:
    size = {"width": PICTURE_WIDTH, "height": PICTURE_HEIGHT}
    page = browser.new_context(base_url=address, viewport=size).new_page()
    page.set_default_timeout(20_000)
    sign_up(page)
    for name, go in PICTURES.items():
        go(page)
        for theme in THEMES:
            file = out / (f"{name}.webp" if theme == "light" else f"{name}-{theme}.webp")
            page.emulate_media(color_scheme=theme)
            shoot(page, file)
            print(f"  {file.name}: {file.stat().st_size:,} bytes")


def shoot(page: Page, file: Path) -> None:
    """What is in the window now. Playwright itself writes no WebP."""
    page.evaluate(SETTLED.replace("scrollTo(0, 0);", ""))
    asked = {"format": "webp", "quality": QUALITY}
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", asked)
    file.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    sys.exit(main())
