"""A module's card: Markdown that anyone may write, made into HTML that is safe to show."""

from functools import lru_cache

import nh3
from django.utils.html import escape
from markdown_it import MarkdownIt

RENDERED_CHARACTERS_MAX = 64 * 1024  # the worst card of this size takes 0.5 s; a longer one stays plain
# A picture from elsewhere would tell its host who reads the card: it stays a link.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
TEXT = {"a", "blockquote", "br", "code", "em", "hr", "p", "pre", "s", "strong"}
LISTS = {"li", "ol", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
HEADINGS = {f"h{level}" for level in range(3, 7)}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}


@lru_cache(maxsize=64)
def markdown_html(markdown: str) -> str:
    """Render a card; its headings begin below those of the page."""
    if len(markdown) > RENDERED_CHARACTERS_MAX:
        return f"<pre>{escape(markdown)}</pre>"
    tokens = MARKDOWN.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return nh3.clean(
        MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}),
        tags=TEXT | LISTS | TABLES | HEADINGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
    )
