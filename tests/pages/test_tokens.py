"""The colours, computed: what is read must stand out 4.5 to 1, and lines that carry meaning 3 to 1."""

import re

import pytest
from django.conf import settings

CSS = settings.BASE_DIR / "static/css"
SHEETS = sorted(CSS.rglob("*.css"))
TOKENS = (CSS / "tokens.css").read_text()
PAIR = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
ALIAS = re.compile(r"--([\w-]+): var\(--([\w-]+)\)")
COLOURS = {name: {"light": light, "dark": dark} for name, light, dark in PAIR.findall(TOKENS)}
COLOURS |= {name: COLOURS[other] for name, other in ALIAS.findall(TOKENS)}

GROUNDS = ["paper", "sheet", "sunk"]
READ = [
    *(
        (ink, ground)
        for ink in ("ink", "ink-quiet", "accent", "accent-strong", "danger")
        for ground in GROUNDS
    ),
    *((state, f"{state}-wash") for state in ("success", "warning", "danger")),
    *(("ink", f"{state}-wash") for state in ("accent", "success", "warning", "danger")),
    ("accent-strong", "accent-wash"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("paper", "ink"),
]
SEEN = [
    *((line, ground) for line in ("line-strong", "focus") for ground in GROUNDS),
    *(
        (name, ground)
        for name in sorted(COLOURS)
        if name.startswith("series-")
        for ground in ("paper", "sheet")
    ),
]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_has_the_greatest_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), READ)
def test_text_can_be_read(ink, ground, theme):
    assert contrast(COLOURS[ink][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("line", "ground"), SEEN)
def test_a_line_with_a_meaning_can_be_seen(line, ground, theme):
    assert contrast(COLOURS[line][theme], COLOURS[ground][theme]) >= 3


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: str(path.relative_to(CSS)))
def test_a_style_sheet_uses_only_tokens_that_exist(path):
    known = set(re.findall(r"(--[\w-]+):", TOKENS))
    assert set(re.findall(r"var\((--[\w-]+)", path.read_text())) <= known


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: str(path.relative_to(CSS)))
def test_colours_are_written_in_one_file_only(path):
    if path.name != "tokens.css":
        assert not re.search(r":[^;{]*(#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\()", path.read_text())
