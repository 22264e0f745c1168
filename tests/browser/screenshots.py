"""`./hub screenshots`: every main page and the compose path at three widths, light and dark, as a gallery."""

import argparse
import contextlib
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.chromium import CHROMIUM_OPTIONS, MISSING, chromium_path

WIDTHS = {390: 844, 768: 1024, 1440: 900}  # px: the height that each is seen at
THEMES = ("light", "dark")
REPORT_TIMEOUT_MS = 240_000
SETTLED = """async () => {
    scrollTo(0, 0);
    await document.fonts.ready;
    await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
}"""
TASK = "animal-spanish"
FORM = "/compositions/new/"


@dataclass(frozen=True)
class Scene:
    """A page in a state worth looking at."""

    name: str
    title: str
    go: Callable[[Page], None]
    after: tuple[str, ...] = ()  # the scenes that must have been gone to


def at(address: str) -> Callable[[Page], None]:
    return lambda page: require_page(page, address)


def require_page(page: Page, address: str) -> None:
    answer = page.goto(address)
    if answer is None or answer.status != 200:
        raise LookupError(f"{address} answers {answer.status if answer else 'nothing'}")


def sign_up(page: Page) -> None:
    page.goto("/accounts/signup/")
    password = secrets.token_urlsafe(12)
    page.locator("input[name=username]").fill(f"shots-{secrets.token_hex(4)}")
    page.locator("input[name=password1]").fill(password)
    page.locator("input[name=password2]").fill(password)
    page.get_by_role("main").get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("banner")).to_contain_text("shots-")


def form_refused(page: Page) -> None:
    page.goto(FORM)
    page.locator("[name=shots_input]").first.fill("an input without its output")
    compose(page)


def watching(page: Page) -> None:
    page.goto(f"{FORM}?task={TASK}")
    page.locator("details:has([name=budget])").evaluate("details => details.open = true")
    page.locator("[name=budget]").fill("4000")  # long enough to be looked at
    compose(page)
    expect(page).to_have_url(re.compile(r"/compositions/[0-9a-f-]{36}/$"))
    page.locator("canvas").first.wait_for()


def report(page: Page) -> None:
    stop = page.get_by_role("button", name="Stop and keep the best")
    if stop.is_visible():
        stop.click()
    page.locator(".verdict").first.wait_for(timeout=REPORT_TIMEOUT_MS)
    page.reload()  # from the page it was watched on, if that is where we are, to the report


def cancelled(page: Page) -> None:
    page.goto(f"{FORM}?task={TASK}")
    compose(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("You cancelled this composition")).to_be_visible(timeout=REPORT_TIMEOUT_MS)


def compose(page: Page) -> None:
    page.get_by_role("main").get_by_role("button", name="Compose", exact=True).click()


def tried(page: Page) -> None:
    page.goto("/demo/french")
    page.locator(".try__examples button").first.click()
    page.locator(".try__result").wait_for(timeout=REPORT_TIMEOUT_MS)


SIGNED_UP = ("signed-up",)
SCENES = [
    Scene("home", "Home", at("/")),
    Scene("library", "Library", at("/modules/")),
    Scene("library-empty", "Library, nothing found", at("/modules/?q=nothing+like+it")),
    Scene("module", "A module", at("/demo/french")),
    Scene("tried", "A module that answered", tried),
    Scene("base", "A base model", at("/demo/tiny-t5")),
    Scene("namespace", "Whose modules", at("/demo")),
    Scene("tag", "A tag", at("/tags/demo/")),
    Scene("compare", "Modules side by side", at("/modules/compare/?id=demo/french&id=demo/animal")),
    Scene("help", "Help", at("/help/")),
    Scene("limits", "Limits", at("/limits/")),
    Scene("sign-in", "Sign in", at("/accounts/login/")),
    Scene("signed-up", "Signed up", sign_up),
    Scene("list-empty", "My compositions, none yet", at("/compositions/"), SIGNED_UP),
    Scene("form", "Your task", at(FORM)),
    Scene("form-filled", "Your task, a ready-made one", at(f"{FORM}?task={TASK}")),
    Scene("form-refused", "Your task, refused", form_refused, SIGNED_UP),
    Scene("watching", "Watching", watching, SIGNED_UP),
    Scene("report", "The report", report, (*SIGNED_UP, "watching")),
    Scene("cancelled", "Cancelled", cancelled, SIGNED_UP),
    Scene("list", "My compositions", at("/compositions/"), SIGNED_UP),
    Scene("upload", "Add a module", at("/modules/new/"), SIGNED_UP),
    Scene("import", "Import from the Hub", at("/modules/imports/new/"), SIGNED_UP),
    Scene("tokens", "Access tokens", at("/settings/tokens/"), SIGNED_UP),
    Scene("not-found", "Not found", lambda page: page.goto("/nobody/nothing") and None),
]


def main() -> int:
    arguments = read_arguments()
    executable = chromium_path()
    if executable is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    with site_at(arguments.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        shown = list(take(browser, address, arguments.out, arguments.only))
        browser.close()
    (arguments.out / "index.html").write_text(gallery(shown), encoding="utf-8")
    print(
        f"{len(shown)} pages, {len(shown) * len(WIDTHS) * len(THEMES)} pictures: {arguments.out}/index.html"
    )
    return 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hub screenshots", description="Take pictures of the site's pages.")
    parser.add_argument("--address", help="of a running site; left out: one of its own, for so long")
    parser.add_argument("--out", type=Path, default=Path("var/screenshots"), help="the gallery's folder")
    names = [scene.name for scene in SCENES]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="PAGE", help=" ".join(names)
    )
    return parser.parse_args()


@contextlib.contextmanager
def site_at(address: str | None) -> Iterator[str]:
    if address:
        yield address
        return
    from tests.running_hub import temporary_hub  # it knows Django's settings

    with temporary_hub() as hub:
        print("Starting a site of its own")
        hub.up()
        hub.wait_until_healthy()
        yield hub.address


def take(browser: Browser, address: str, out: Path, only: list[str]) -> Iterator[Scene]:
    """Each scene in its turn, in one visit: what is signed up and composed stays for those after it."""
    page = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(20_000)
    gone_to = {name for scene in SCENES if scene.name in only for name in (*scene.after, scene.name)}
    for scene in SCENES:
        if scene.name not in gone_to:
            continue
        page.set_viewport_size({"width": 1440, "height": 900})
        try:
            scene.go(page)
        except LookupError as missing:
            print(f"  {scene.name}: left out, {missing}")
            continue
        if scene.name in only:
            shoot(page, out, scene.name)
            print(f"  {scene.name}")
            yield scene


def shoot(page: Page, out: Path, name: str) -> None:
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for width, height in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": height})
            # The window as high as its page: what sticks to its edge would else lie across the picture.
            whole = max(height, page.evaluate("document.documentElement.scrollHeight"))
            page.set_viewport_size({"width": width, "height": whole})
            page.evaluate(SETTLED)
            page.screenshot(path=out / picture(name, width, theme), full_page=True, animations="disabled")


def picture(name: str, width: int, theme: str) -> str:
    return f"{name}-{width}-{theme}.png"


def gallery(scenes: list[Scene]) -> str:
    return GALLERY.format(
        links="".join(f'<a href="#{scene.name}">{escape(scene.title)}</a> ' for scene in scenes),
        sections="".join(map(section, scenes)),
    )


def section(scene: Scene) -> str:
    figures = "".join(
        f"<figure><figcaption>{width} px, {theme}</figcaption>"
        f'<a href="{name}"><img loading="lazy" src="{name}" alt="Open it in its own size"></a></figure>'
        for theme in THEMES
        for width in WIDTHS
        for name in [picture(scene.name, width, theme)]
    )
    return f'<section id="{scene.name}"><h2>{escape(scene.title)}</h2><div>{figures}</div></section>'


GALLERY = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>LoRA Hub, page by page</title>
<style>
body {{ margin: 2rem; font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark }}
section > div {{ display: grid; grid-template-columns: 1fr 2fr 3fr; gap: 1rem; align-items: start }}
nav {{ display: flex; flex-wrap: wrap; gap: .25rem 1rem }}
figure {{ margin: 0 }}
figcaption {{ font-size: .8125rem; white-space: nowrap }}
img {{ width: 100%; border: 1px solid #8888 }}
</style>
<h1>LoRA Hub, page by page</h1>
<nav>{links}</nav>
{sections}
</html>
"""


if __name__ == "__main__":
    sys.exit(main())
