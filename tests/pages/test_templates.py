"""Every template of the site, whoever wrote it."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders

from hub_site.pages.styleguide import icons

LINE_LENGTH = 140
FOLDER = settings.BASE_DIR / "templates"
COMPONENT_STYLES = settings.BASE_DIR / "static/css/components"
TEMPLATES = sorted((*FOLDER.rglob("*.html"), *FOLDER.rglob("*.jinja")))
STATIC = re.compile(r"""{% static ['"]([^'"]+)['"] %}""")
ICON = re.compile(r'(?:_icon\.html" with name=|\bicon=|\bicon\()"([\w-]+)"')


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_template_has_no_inline_style_or_script_and_asks_no_other_server(path: Path):
    markup = path.read_text()
    assert not re.search(r"""\sstyle\s*=\s*["']""", markup)
    assert not re.search(r"""\son[a-z]+\s*=\s*["']""", markup)
    assert not re.search(r"<style\b", markup)
    assert not re.search(r"<script(?![^>]*\bsrc=)", markup)
    assert not re.search(r"""\b(src|srcset)=["'](https?:)?//""", markup)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_icon_a_template_names_is_in_the_sprite(path: Path):
    assert set(ICON.findall(path.read_text())) <= set(icons())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_static_file_a_template_names_is_there(path: Path):
    assert [name for name in STATIC.findall(path.read_text()) if not finders.find(name)] == []


def test_every_page_links_each_component_s_style_sheet_once_and_phone_and_print_last():
    linked = STATIC.findall((FOLDER / "components/_style_sheets.html").read_text())
    components = [f"css/components/{path.name}" for path in COMPONENT_STYLES.glob("*.css")]
    assert sorted(linked) == sorted(["css/tokens.css", *components])
    assert linked[-1] == "css/components/phone-and-print.css"
    for base in ("base.html", "base_bare.html"):
        assert '{% include "components/_style_sheets.html" %}' in (FOLDER / base).read_text()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_line_of_a_template_is_too_long_to_read(path: Path):
    lines = enumerate(path.read_text().splitlines(), start=1)
    assert [number for number, line in lines if len(line) > LINE_LENGTH] == []
