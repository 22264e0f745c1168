"""Cards are written by anyone and shown to everyone."""

import threading
import time
from html.parser import HTMLParser

import pytest
from django.utils.html import escape

from hub_site.jobs.sandbox import Limits
from modules_registry import rendering
from modules_registry.card_html import card_html
from modules_registry.card_math import ATTRIBUTES, TAGS
from modules_registry.rendering import RENDERED_CHARACTERS_MAX, shown_card


def test_a_card_keeps_its_shape():
    html = card_html("# Title\n\nSome **bold** and `code`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    for part in ("<h3>Title</h3>", "<strong>bold</strong>", "<code>code</code>", "<td>1</td>"):
        assert part in html


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:msgbox)",
        '[x](http://a "onmouseover=alert(1)")',
        "![x](http://spy.example/pixel.png)",
        "![x](javascript:alert(1))",
        "<javascript:alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        "<iframe src=//evil.example></iframe>",
        "<style>body{display:none}</style>",
        "<svg onload=alert(1)>",
        '<p style="position:fixed">x</p>',
        "```html\n<script>alert(1)</script>\n```",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "<form action=//evil.example><input name=password></form>",
    ],
)
def test_nothing_in_a_card_runs_or_loads(markdown):
    for tag, attributes in elements(card_html(markdown)):
        assert tag in {"a", "code", "p", "pre"}
        assert set(attributes) <= {"href", "title", "rel"}
        assert attributes.get("href", "https:").startswith(("http:", "https:"))


def elements(html):
    """Every element that a browser would make of this, with its attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(html)
    return found


def test_links_do_not_vouch_for_where_they_lead():
    assert 'rel="nofollow noopener"' in card_html("[x](https://example.org)")


HEAD_OF_MANY_COLUMNS = "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n"
MANY_TABLES = "|a|b|\n|-|-|\n" * 1300 + "\n" + "|a" * 10_000 + "\n" + "|-" * 10_000 + "\n|\n|\n|\n"
EXPENSIVE = {
    "columns": HEAD_OF_MANY_COLUMNS + "|\n" * 2000,  # the parser fills in every empty cell
    "long": "[" * (RENDERED_CHARACTERS_MAX + 1),
}


@pytest.fixture(autouse=True)
def forget_cards():
    rendering.rendered_html.cache_clear()
    yield
    rendering.rendered_html.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["[", "[](", "*a ", "> ", "`a``b", "- a\n", "|a|\n|-|\n", "<a ", "![a]("])
def test_a_card_made_to_be_slow_is_shown_soon(unit):
    used_s, start = time.process_time(), time.perf_counter()
    shown_card(unit * (RENDERED_CHARACTERS_MAX // len(unit) - 1))
    assert time.perf_counter() - start < 10
    assert time.process_time() - used_s < 0.2, "the web process itself does none of it"


def test_many_tables_take_a_fast_machine_less_than_the_limit_and_the_web_process_nothing():
    used_s = time.process_time()
    shown_card(MANY_TABLES)
    assert time.process_time() - used_s < 0.2


@pytest.mark.parametrize("markdown", EXPENSIVE.values(), ids=EXPENSIVE)
def test_a_card_that_costs_too_much_is_shown_as_it_was_typed(markdown):
    shown = shown_card(markdown)
    assert shown.is_plain
    assert shown.html == f"<pre>{escape(markdown)}</pre>"


@pytest.mark.parametrize(
    "limits",
    [Limits(memory_mb=1), Limits(cpu_s=0), Limits(file_mb=0)],
    ids=["memory", "processor", "file"],
)
def test_what_exceeds_a_limit_of_the_child_stays_plain(monkeypatch, limits):
    monkeypatch.setattr(rendering, "LIMITS", limits)
    assert shown_card("|a|b|\n|-|-|\n" * 1300).is_plain


def test_the_same_card_is_rendered_once(monkeypatch):
    first = shown_card("# Once\n")
    monkeypatch.setattr(rendering, "launcher", lambda: pytest.fail("It was rendered again."))
    assert shown_card("# Once\n") == first
    assert "<h3>Once</h3>" in first.html


def test_a_fault_of_the_machine_is_not_kept(monkeypatch):
    """The folder of uploads cannot be written: the page comes, and the next one is whole again."""
    with monkeypatch.context() as patch:
        patch.setattr(rendering.settings, "FILE_UPLOAD_TEMP_DIR", "/nowhere")
        assert shown_card("# Later\n").is_plain
    assert "<h3>Later</h3>" in shown_card("# Later\n").html


def test_a_card_waits_for_its_turn_and_no_longer(monkeypatch):
    monkeypatch.setattr(rendering, "places", threading.BoundedSemaphore(1))
    monkeypatch.setattr(rendering, "RENDER_S", 0.1)
    with rendering.places:
        assert shown_card("# Waiting\n").is_plain


def test_the_card_that_peft_writes_shows_no_comments():
    html = card_html(
        "# Model Card for Model ID\n\n<!-- Provide a quick summary of what the model is/does. -->\n\n"
        "## Uses\n\n<!-- Address questions\nover lines. -->\n\n[More Information Needed]\n"
    )
    assert "Provide a quick summary" not in html
    assert "Address questions" not in html
    assert "&lt;!--" not in html
    assert "[More Information Needed]" in html


def test_details_tables_and_tasks_keep_their_shape():
    html = card_html(
        "<details><summary>See axolotl config</summary>\n\n```yaml\nlr: 1\n```\n\n</details>\n\n"
        "<table><tr><td>1</td></tr></table>\n\n- [ ] later\n- [x] done\n- [y] neither\n\n"
        "<h1>Top</h1>\n\nH<sub>2</sub>O"
    )
    for part in (
        '<div class="table-wrap"><table>',  # which scrolls, and the page does not
        "</table></div>",
        "<details><summary>See axolotl config</summary>",
        "lr: 1",
        "<td>1</td>",
        "<li>☐ later</li>",
        "<li>☑ done</li>",
        "<li>[y] neither</li>",
        "<h3>Top</h3>",
        "H<sub>2</sub>O",
    ):
        assert part in html


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        (
            "![Loss curve](https://x.org/a.png)",
            '<a href="https://x.org/a.png" rel="nofollow noopener">Loss curve</a>',
        ),
        ('<img alt="Loss curve" src="https://x.org/a.png">', ">Loss curve</a>"),
        ("<p align=center><IMG src=a.png alt='Loss curve'/></p>", "<p>Loss curve</p>"),
        ("![](a.png)", "<p>picture</p>"),
        ('<img alt="<b>&quot;" src=x>', "&lt;b&gt;"),
    ],
)
def test_pictures_show_their_alternative_text(markdown, shown):
    html = card_html(markdown)
    assert shown in html
    assert "<img" not in html


LINK = '<a href="https://ci.example/run" rel="nofollow noopener">'


@pytest.mark.parametrize(
    "badge",
    [
        "[![Build](https://ci.example/badge.svg)](https://ci.example/run)",
        '<a href="https://ci.example/run"><img src="https://ci.example/badge.svg" alt="Build"></a>',
        "[<img src=https://ci.example/badge.svg alt=Build>](https://ci.example/run)",
        '<a href="https://ci.example/run">![Build](https://ci.example/badge.svg)</a>',
        "[![Build](badge.svg)][run]\n\n[run]: https://ci.example/run",
    ],
)
def test_a_picture_in_a_link_shows_its_text_as_that_link(badge):
    html = card_html(badge)
    assert f"{LINK}Build</a>" in html
    assert html.count("<a ") == 1


def test_every_picture_of_a_row_of_badges_keeps_its_own_link():
    html = card_html(
        "[![Build](https://b.example/1)](https://ci.example/run) ![Loss](https://b.example/2)\n"
        "[![ ](https://b.example/3) Docs](https://docs.example/)"
    )
    links = [(tag, attributes["href"]) for tag, attributes in elements(html) if tag == "a"]
    assert links == [
        ("a", "https://ci.example/run"),
        ("a", "https://b.example/2"),
        ("a", "https://docs.example/"),
    ]
    assert "<img" not in html


def test_a_footnote_leads_to_its_text_and_back():
    html = card_html("It helps.[^1]\n\n[^1]: On *ten* tasks.\n")
    links = [attributes for tag, attributes in elements(html) if tag == "a"]
    ids = [attributes["id"] for _, attributes in elements(html) if "id" in attributes]
    assert [link["href"] for link in links] == ["#fn-card-1", "#fnref-card-1"]
    assert ids == ["fnref-card-1", "fn-card-1"]
    assert "On <em>ten</em> tasks." in html


def test_a_card_names_no_other_element_of_the_page():
    html = card_html('<a id="main" href="#x">a</a><a id="fn-card-1x" href="#x">b</a><p id="facts">c</p>')
    assert not [attributes for _, attributes in elements(html) if "id" in attributes]


@pytest.mark.parametrize(
    ("markdown", "is_block"),
    [
        (r"The delta is $\frac{\alpha}{r} BA$.", False),
        (r"The delta is $$\frac{\alpha}{r} BA$$.", False),
        ("$$\n\\frac{\\alpha}{r} BA\n$$", True),
        ("```math\n\\frac{\\alpha}{r} BA\n```", True),
    ],
)
def test_a_formula_is_shown_as_one(markdown, is_block):
    html = card_html(markdown)
    assert f'<math display="{"block" if is_block else "inline"}">' in html
    assert "<mfrac><mrow><mi>α</mi></mrow><mrow><mi>r</mi></mrow></mfrac>" in html
    assert "formula" not in html


@pytest.mark.parametrize("text", ["from $5 to $10", r"a \$x\$ b", "`$x$`", "$ x $"])
def test_money_and_code_are_no_formulas(text):
    assert "<math" not in card_html(text)


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{",
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        "x" * 2001,
    ],
)
def test_a_formula_that_cannot_be_shown_stays_as_it_was_typed(tex):
    assert card_html(f"${tex}$") == f"<p><code>{escape(tex)}</code></p>\n"


@pytest.mark.parametrize(
    "tex", [r"\href{javascript:alert(1)}{x}", r"\class{a}{x}", r"\color{red} x", r"\unicode{60}"]
)
def test_nothing_in_a_formula_runs_or_loads(tex):
    html = card_html(f"${tex}$")
    assert {tag for tag, _ in elements(html)} <= {"p", "code"} | TAGS
    assert all(set(attributes) <= ATTRIBUTES for _, attributes in elements(html))


def test_mathml_of_a_card_s_own_is_left_out():
    assert card_html("a<math><mi>x</mi></math>b") == "<p>ab</p>\n"
