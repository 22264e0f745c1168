"""axe-core over a page as it stands in the browser, in both themes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

AXE = (Path(__file__).parent / "vendor/axe-core/axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]  # axe's tags
THEMES = ("light", "dark")
SHOW_THEME = """async (theme) => {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("hub:theme"));
    // What is folded away does not move, and never finishes.
    const seen = document.getAnimations().filter(({ effect }) => effect.target.checkVisibility());
    await Promise.allSettled(seen.map((animation) => animation.finished));
}"""
RUN = """async (tags) => {
    const found = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    return found.violations;
}"""


# Broken anywhere on purpose: names, hashes, code, what people typed. A part of a file name is no word.
BREAKS = ".mono, code, pre, kbd, .module__title, .num, textarea, .prose, .sample"
BROKEN = """(breaks) => {
    const broken = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, parent = node.parentElement;
        if (!parent.checkVisibility({ checkOpacity: true }) || parent.closest(breaks)) continue;
        for (const word of node.data.matchAll(/(?<![^\\s(“"])\\p{L}{2,}(?=[\\s,.;:!?)”"]|$)/gu)) {
            const range = document.createRange();
            range.setStart(node, word.index);
            range.setEnd(node, word.index + word[0].length);
            const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
            if (lines.size > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""
WIDE = """() => [...document.querySelectorAll("main *, header *, footer *")]
    .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
    .filter((each) => !each.closest(".table-wrap, pre, .visually-hidden, [class*=scroll]"))
    .slice(0, 5).map((each) => each.outerHTML.slice(0, 120))"""

# What takes part in a page: each gets a number, in the order of the document.
NUMBER_STOPS = """() => {
    const stops = [...document.querySelectorAll(
        "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
    )].filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled);
    const isStop = (each) => {
        if (each.tabIndex < 0) return false;
        if (each.type !== "radio" || each.checked) return true;
        const group = document.querySelectorAll(`input[type=radio][name="${CSS.escape(each.name)}"]`);
        return each === group[0] && ![...group].some((other) => other.checked);
    };
    stops.filter(isStop).forEach((each, number) => { each.dataset.stop = number; });
    document.activeElement?.blur();
    return stops.filter(isStop).map((each) => each.outerHTML.slice(0, 120));
}"""
# The number of what has the focus, and whether that can be seen: an outline on it, or on what stands for it.
FOCUSED = """() => {
    const each = document.activeElement;
    if (!each || each === document.body) return null;
    const hasRing = (one) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(one);
        return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
    };
    const around = document.querySelectorAll(":is(main, header, footer) :focus-within");
    const isSeen = [each, ...around, ...(each.labels ?? [])].some(hasRing);
    return { stop: each.dataset.stop ?? null, isSeen, html: each.outerHTML.slice(0, 120) };
}"""
STOPS_BESIDE = 30  # more presses than stops: a player, a scrolling table


def require_accessible(page: Page) -> None:
    """Fail with all that axe sees here, light or dark, against WCAG 2.2 AA or good practice."""
    complaints = list(violations(page))
    assert not complaints, f"{page.url}\n" + "\n".join(complaints)


def violations(page: Page) -> Iterator[str]:
    """One readable complaint per rule and theme. The page is left in the last theme."""
    page.evaluate(AXE)  # not a script tag: the site's policy would refuse it
    for theme in THEMES:
        page.evaluate(SHOW_THEME, theme)
        for violation in page.evaluate(RUN, RULES):
            yield complaint(theme, violation)


def complaint(theme: str, violation: dict[str, Any]) -> str:
    lines = [f"[{theme}] {violation['id']}: {violation['help']} ({violation['helpUrl']})"]
    for node in violation["nodes"]:
        why = " ".join(node["failureSummary"].split())
        lines.append(f"    {' '.join(map(str, node['target']))}\n        {node['html'][:160]}\n        {why}")
    return "\n".join(lines)


def require_whole(page: Page) -> None:
    """Fail where the page is wider than its window, or a word of its text stands on two lines."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.evaluate(WIDE)
    assert page.evaluate(BROKEN, BREAKS) == [], page.url


def require_reachable_by_keyboard(page: Page) -> None:
    """Go through the page by Tab: fail where something is left out, traps the focus, or does not show it."""
    expect(page.locator(".module__later, .htmx-request")).to_have_count(0)  # what comes takes a link's place
    stops = page.evaluate(NUMBER_STOPS)
    reached: set[int] = set()
    for _ in range(len(stops) + STOPS_BESIDE):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            continue  # past the last one: the next is the first
        assert focused["isSeen"], f"{page.url}: the focus is not seen on {focused['html']}"
        if focused["stop"] is not None:
            reached.add(int(focused["stop"]))
        if len(reached) == len(stops):
            break
    missed = [html for number, html in enumerate(stops) if number not in reached]
    assert missed == [], f"{page.url}: not reached by Tab: {missed}"
