"""axe-core over a page as it stands in the browser, in both themes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = (Path(__file__).parent / "vendor/axe-core/axe.min.js").read_text(encoding="utf-8")
WCAG_22_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
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


def require_accessible(page: Page) -> None:
    """Fail with every violation of WCAG 2.2 AA that axe sees on this page, light or dark."""
    complaints = list(violations(page))
    assert not complaints, f"{page.url}\n" + "\n".join(complaints)


def violations(page: Page) -> Iterator[str]:
    """One readable complaint per rule and theme. The page is left in the last theme."""
    page.evaluate(AXE)  # not a script tag: the site's policy would refuse it
    for theme in THEMES:
        page.evaluate(SHOW_THEME, theme)
        for violation in page.evaluate(RUN, WCAG_22_AA):
            yield complaint(theme, violation)


def complaint(theme: str, violation: dict[str, Any]) -> str:
    lines = [f"[{theme}] {violation['id']}: {violation['help']} ({violation['helpUrl']})"]
    for node in violation["nodes"]:
        why = " ".join(node["failureSummary"].split())
        lines.append(f"    {' '.join(map(str, node['target']))}\n        {node['html'][:160]}\n        {why}")
    return "\n".join(lines)
