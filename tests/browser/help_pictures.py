"""`./hub help-pictures`: the pictures of the help, and the README's moving one, from a running site."""

import argparse
import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hub_site.pages.help_pages import PICTURE_HEIGHT, PICTURE_WIDTH
from tests.browser.chromium import CHROMIUM_OPTIONS, MISSING, chromium_path
from tests.browser.screenshots import FORM, SETTLED, TASK, THEMES, report, sign_up, site_at, tried, watching

FOLDER = settings.BASE_DIR / "static/img/help"
MOVING = settings.BASE_DIR / "docs/images/path.webp"
MOVING_WIDTH = 960  # px
QUALITY = 80  # of WebP, in percent
STILL_MS, STEP_MS = 2500, 1000  # how long a frame of the moving picture is shown
WATCHED = 4  # frames of the search


def form(page: Page) -> None:
    page.goto(f"{FORM}?task={TASK}")
    page.locator("[data-grid]").evaluate("grid => scrollTo(0, grid.getBoundingClientRect().top - 260)")


def watched(page: Page) -> None:
    watching(page)
    show_charts(page)


def show_charts(page: Page) -> None:
    """Scroll to the charts of the search. The page grows: do so before each picture."""
    page.locator(".watch-figures").first.evaluate("charts => charts.scrollIntoView({block: 'end'})")


def report_from_its_top(page: Page) -> None:
    report(page)
    page.evaluate("scrollTo(0, 0)")


def try_it(page: Page) -> None:
    tried(page)
    page.wait_for_load_state("networkidle")
    page.locator(".try__result").evaluate("result => result.scrollIntoView({block: 'center'})")


SETTLED_HERE = SETTLED.replace("scrollTo(0, 0);", "")
# In this order, in one visit: the report is that of the composition that was watched.
PICTURES: dict[str, Callable[[Page], None]] = {
    "form": form,
    "watching": watched,
    "report": report_from_its_top,
    "try-it": try_it,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="hub help-pictures", description=__doc__)
    parser.add_argument("--address", help="of a running site; left out: one of its own, for so long")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder of the pictures")
    parser.add_argument("--moving", type=Path, default=MOVING, help="the file of the moving picture")
    arguments = parser.parse_args()
    executable = chromium_path()
    if executable is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    with site_at(arguments.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        take(browser, address, arguments.out, arguments.moving)
        browser.close()
    return 0


def take(browser: Browser, address: str, out: Path, moving: Path) -> None:
    size = {"width": PICTURE_WIDTH, "height": PICTURE_HEIGHT}
    page = browser.new_context(base_url=address, viewport=size).new_page()
    page.set_default_timeout(20_000)
    sign_up(page)
    frames: list[tuple[bytes, int]] = []  # a PNG, and for how many milliseconds it is shown
    for name, go in PICTURES.items():
        go(page)
        page.emulate_media(color_scheme="light")
        if name == "watching":
            for _ in range(WATCHED):
                show_charts(page)
                frames.append((page.screenshot(), STEP_MS))
                page.wait_for_timeout(STEP_MS)
        else:
            page.evaluate(SETTLED_HERE)
            frames.append((page.screenshot(), STILL_MS))
        for theme in THEMES:
            file = out / (f"{name}.webp" if theme == "light" else f"{name}-{theme}.webp")
            page.emulate_media(color_scheme=theme)
            shoot(page, file)
            print(f"  {file.name}: {file.stat().st_size:,} bytes")
    write_moving(frames, moving)
    print(f"  {moving.name}: {moving.stat().st_size:,} bytes")


def write_moving(frames: list[tuple[bytes, int]], file: Path) -> None:
    """An animated WebP of the frames, without an end."""
    first, *others = [small(png) for png, _ in frames]
    durations_ms = [shown_ms for _, shown_ms in frames]
    first.save(
        file, save_all=True, append_images=others, duration=durations_ms, loop=0, quality=QUALITY, method=6
    )


def small(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.resize((MOVING_WIDTH, round(picture.height * MOVING_WIDTH / picture.width)))


def shoot(page: Page, file: Path) -> None:
    """What is in the window now. Playwright itself writes no WebP."""
    page.evaluate(SETTLED_HERE)
    asked = {"format": "webp", "quality": QUALITY}
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", asked)
    file.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    sys.exit(main())
