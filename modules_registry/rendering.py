"""A module's card: Markdown that anyone may write, made into HTML that is safe to show."""

import re
from collections.abc import Mapping
from functools import lru_cache
from html.parser import HTMLParser

import nh3
from django.utils.html import escape
from markdown_it import MarkdownIt
from markdown_it.token import Token

RENDERED_CHARACTERS_MAX = 64 * 1024  # the worst card of this size takes 0.5 s; a longer one stays plain
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXT = {"a", "blockquote", "br", "code", "em", "hr", "kbd", "p", "pre", "s", "strong", "sub", "sup"}
FOLDS = {"details", "summary"}
LISTS = {"li", "ol", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
HEADINGS = {f"h{level}" for level in range(3, 7)}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "details": {"open"}}
DROPPED_WITH_CONTENT = {"script", "style", "svg", "math", "iframe", "object", "template", "noscript", "title"}
IMAGE_TAG = re.compile(r"""<img\b(?:[^<>"']|"[^"]*"|'[^']*')*>""", re.IGNORECASE)
HEADING_TAG = re.compile(r"(?<=<)(/?)h([1-6])\b", re.IGNORECASE)
TASK = re.compile(r"\[(?P<done>[ xX])\]\s+")
DONE, OPEN = "☑ ", "☐ "


@lru_cache(maxsize=64)
def markdown_html(markdown: str) -> str:
    """Render a card; its headings begin below those of the page.

    HTML in it is kept as far as it is harmless. A picture from elsewhere would tell its host who reads the
    card, so its alternative text stands in its place, as a link where it has an address.
    """
    if len(markdown) > RENDERED_CHARACTERS_MAX:
        return f"<pre>{escape(markdown)}</pre>"
    tokens = MARKDOWN.parse(markdown)
    for before, token in zip([None, None, *tokens], tokens, strict=False):
        if token.type in ("heading_open", "heading_close"):
            token.tag = lower_heading(int(token.tag[1]))
        elif token.type == "html_block":
            token.content = without_pictures(token.content)
        elif token.type == "inline":
            rewrite_inline(
                token.children or [], is_item=before is not None and before.type == "list_item_open"
            )
    return nh3.clean(
        MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}),
        tags=TEXT | FOLDS | LISTS | TABLES | HEADINGS,
        clean_content_tags=DROPPED_WITH_CONTENT,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
    )


def lower_heading(level: int) -> str:
    return f"h{min(6, level + 2)}"


def rewrite_inline(children: list[Token], *, is_item: bool) -> None:
    """Put texts in the place of pictures, and marks in that of a task's box."""
    for child in children:
        if child.type == "html_inline":
            child.content = without_pictures(child.content)
        elif child.type == "image":
            child.type, child.content = "html_inline", text_of_picture(child.content, str(child.attrs["src"]))
    first = children[0] if children else None
    if is_item and first is not None and first.type == "text" and (task := TASK.match(first.content)):
        first.content = (OPEN if task["done"] == " " else DONE) + first.content[task.end() :]


def without_pictures(html: str) -> str:
    """HTML with the alternative texts of its pictures, and headings below those of the page."""
    html = HEADING_TAG.sub(lambda found: found[1] + lower_heading(int(found[2])), html)
    return IMAGE_TAG.sub(lambda found: text_of_tag(found[0]), html)


class Attributes(HTMLParser):
    """The attributes of one tag."""

    found: Mapping[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found = dict(attrs)


def text_of_tag(tag: str) -> str:
    parser = Attributes()
    parser.feed(tag)
    return text_of_picture(parser.found.get("alt") or "", parser.found.get("src") or "")


def text_of_picture(alternative: str, address: str) -> str:
    text = escape(alternative or "picture")
    return f'<a href="{escape(address)}">{text}</a>' if address.startswith(("http://", "https://")) else text
