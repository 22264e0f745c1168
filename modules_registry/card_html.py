"""A card's Markdown, which anyone may write, made into HTML that is safe to show.

It runs in a child with limits (`modules_registry.rendering`): a parser can be made to take long.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from modules_registry.card_math import formula_html

MARKDOWN_FILE, HTML_FILE = "card.md", "card.html"
HTML_CHARACTERS_MAX = 512 * 1024  # what a page can show; a table of empty cells becomes 500 times as long
MARKDOWN = (
    MarkdownIt("commonmark", {"html": True})
    .enable(["table", "strikethrough"])
    .use(footnote_plugin, inline=False)
    # As on GitHub and the Hub: $x$ touches its dollars, so that “from $5 to $10” stays money.
    .use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
)
TEXT = {"a", "blockquote", "br", "code", "em", "hr", "kbd", "p", "pre", "s", "strong", "sub", "sup"}
FOLDS = {"details", "summary"}
LISTS = {"li", "ol", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
HEADINGS = {f"h{level}" for level in range(3, 7)}
ATTRIBUTES = {"a": {"href", "id", "title"}, "ol": {"start"}, "details": {"open"}, "li": {"id"}}
# Of a footnote and of the places that refer to it, as the parser writes them: nothing else has an id.
FOOTNOTES = "card"
FOOTNOTE_ID = re.compile(rf"fn(?:ref)?-{FOOTNOTES}-[0-9]+(?::[0-9]+)?")
INLINE_FORMULAS = {"math_inline", "math_inline_double"}
PICTURES = {"img": {"alt", "src"}}
DROPPED_WITH_CONTENT = {"script", "style", "svg", "math", "iframe", "object", "template", "noscript", "title"}
LINK_OR_PICTURE = re.compile(r'<a\b|</a>|<img\b(?:[^"<>]|"[^"]*")*>')  # in HTML as nh3 writes it
HEADING_TAG = re.compile(r"(?<=<)(/?)h([1-6])\b", re.IGNORECASE)
TASK = re.compile(r"\[(?P<done>[ xX])\]\s+")
DONE, OPEN = "☑ ", "☐ "


class TooLongError(Exception):
    """A card becomes longer than HTML_CHARACTERS_MAX."""

    code = "card_too_long"


def render_file(folder: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Read `folder`/MARKDOWN_FILE, write `folder`/HTML_FILE: what the child does.

    Raises:
        TooLongError: the HTML is longer than a page can show.
    """
    html = card_html((folder / MARKDOWN_FILE).read_text(encoding="utf-8"))
    (folder / HTML_FILE).write_text(html, encoding="utf-8")


def card_html(markdown: str) -> str:
    """Render a card; its headings begin below those of the page.

    HTML in it is kept as far as it is harmless. A picture from elsewhere would tell its host who reads the
    card, so its alternative text stands in its place: in the link that is around it, else as a link to it.

    Raises:
        TooLongError: the HTML is longer than a page can show.
    """
    env = {"docId": FOOTNOTES}
    tokens = MARKDOWN.parse(markdown, env)
    formulas = Formulas()
    for before, token in zip([None, None, *tokens], tokens, strict=False):
        if token.type in ("heading_open", "heading_close"):
            token.tag = lower_heading(int(token.tag[1]))
        elif token.type == "html_block":
            token.content = lower_headings(token.content)
        elif is_formula_block(token):
            formulas.put_mark(token, is_block=True)
        elif token.type == "inline":
            is_item = before is not None and before.type == "list_item_open"
            rewrite_inline(token.children or [], formulas, is_item=is_item)
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, env)
    if len(html) > HTML_CHARACTERS_MAX:
        raise TooLongError
    html = formulas.put_formulas(wrap_tables(clean(replace_pictures(clean(html, PICTURES)))))
    if len(html) > HTML_CHARACTERS_MAX:
        raise TooLongError
    return html


def wrap_tables(html: str) -> str:
    """Put each table into a box that scrolls sideways, so that the page does not.

    Args:
        html: as `clean` writes it: tables have no attributes, and end.
    """
    return html.replace("<table>", '<div class="table-wrap"><table>').replace("</table>", "</table></div>")


def is_formula_block(token: Token) -> bool:
    """Whether it is a formula on lines of its own: between $$ and $$, or fenced as math."""
    return token.type == "math_block" or (token.type == "fence" and token.info.strip() == "math")


class Formulas:
    """The formulas of one card.

    A mark that nobody can guess stands for each while the card is cleaned: no MathML of the card's own gets
    through that.
    """

    def __init__(self) -> None:
        self.name = f"formula{secrets.token_hex(16)}"
        self.html: list[str] = []

    def put_mark(self, token: Token, *, is_block: bool) -> None:
        """Put a mark in the place of a token that is a formula."""
        self.html.append(formula_html(token.content.strip(), is_block=is_block))
        mark = f"{self.name}{'b' if is_block else 'i'}{len(self.html) - 1}e"
        token.type, token.content = ("html_block", f"<p>{mark}</p>\n") if is_block else ("text", mark)

    def put_formulas(self, html: str) -> str:
        """Put the formulas in the places of their marks, in HTML that was cleaned."""
        marks = re.compile(rf"<p>{self.name}b([0-9]+)e</p>|{self.name}[bi]([0-9]+)e")
        return marks.sub(lambda found: self.html[int(found[1] or found[2])], html)


def clean(html: str, more: Mapping[str, set[str]] = MappingProxyType({})) -> str:
    """The harmless part of it, well-formed.

    Args:
        more: further tags that stay, with their attributes.
    """
    return nh3.clean(
        html,
        tags=TEXT | FOLDS | LISTS | TABLES | HEADINGS | set(more),
        clean_content_tags=DROPPED_WITH_CONTENT,
        attributes=ATTRIBUTES | dict(more),
        attribute_filter=keep_attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
    )


def keep_attribute(_tag: str, name: str, value: str) -> str | None:
    """The value of an attribute; None for an id that is not that of a footnote."""
    return value if name != "id" or FOOTNOTE_ID.fullmatch(value) else None


def lower_heading(level: int) -> str:
    return f"h{min(6, level + 2)}"


def rewrite_inline(children: list[Token], formulas: Formulas, *, is_item: bool) -> None:
    """Lower the headings, and put marks in the places of formulas and of a task's box."""
    for child in children:
        if child.type == "html_inline":
            child.content = lower_headings(child.content)
        elif child.type in INLINE_FORMULAS:
            formulas.put_mark(child, is_block=False)
    first = children[0] if children else None
    if is_item and first is not None and first.type == "text" and (task := TASK.match(first.content)):
        first.content = (OPEN if task["done"] == " " else DONE) + first.content[task.end() :]


def lower_headings(html: str) -> str:
    """HTML whose headings begin below those of the page."""
    return HEADING_TAG.sub(lambda found: found[1] + lower_heading(int(found[2])), html)


def replace_pictures(html: str) -> str:
    """Put its alternative text in the place of each picture; `html` is as `clean` writes it."""
    is_in_link = False

    def replace(found: re.Match[str]) -> str:
        nonlocal is_in_link
        if found[0].startswith("<img"):
            return text_of_picture(found[0], is_in_link=is_in_link)
        is_in_link = found[0] == "<a"
        return found[0]

    return LINK_OR_PICTURE.sub(replace, html)


class Attributes(HTMLParser):
    """The attributes of one tag."""

    found: Mapping[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found = dict(attrs)


def text_of_picture(tag: str, *, is_in_link: bool) -> str:
    """The alternative text of a picture; a link to it, unless it stands in a link already."""
    parser = Attributes()
    parser.feed(tag)
    text, address = escape(parser.found.get("alt") or "picture"), parser.found.get("src") or ""
    if is_in_link or not address.startswith(("http://", "https://")):
        return text
    return f'<a href="{escape(address)}">{text}</a>'
