"""The pages of the help, each made from a Markdown file of docs/."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.token import Token

from modules_registry.core.refusal_table import TABLES

DOCS, STATIC = Path("docs"), Path("static")
EXAMPLE_ADDRESS = "http://127.0.0.1:8000"  # in the files; a page shows the site's own
PICTURE_WIDTH, PICTURE_HEIGHT = 1200, 750  # px; `./hub help-pictures` takes them
LABELS = {"sh": "Shell", "python": "Python", "json": "JSON", "yaml": "YAML", "sql": "SQL"}
REFUSALS = "<!-- refusals -->"  # stands for the tables of refusals
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXT_TOKENS = {"text", "code_inline"}


@dataclass(frozen=True)
class HelpPage:
    """A page of the help. Args: source: its Markdown, below docs/."""

    slug: str
    title: str
    summary: str
    source: str

    def get_absolute_url(self) -> str:
        return reverse("pages:help-page", args=[self.slug])


GROUPS: Mapping[str, Sequence[HelpPage]] = {
    "Start": (
        HelpPage(
            "getting-started",
            "Getting started",
            "Ten minutes, from a ready-made task to an adapter in peft.",
            "help/getting-started.md",
        ),
        HelpPage(
            "composing",
            "How composing works",
            "What is searched, what the weights mean, and what composing cannot do.",
            "help/composing.md",
        ),
        HelpPage(
            "verdict",
            "What the verdict means",
            "Each verdict, its intervals, and what to do next.",
            "help/verdict.md",
        ),
        HelpPage("trouble", "Troubleshooting", "What a message means and what to do.", "help/trouble.md"),
        HelpPage(
            "account",
            "Your account",
            "Tokens, organizations, notifications, and how to delete it.",
            "help/account.md",
        ),
    ),
    "Share and use": (
        HelpPage(
            "authors",
            "For authors of modules",
            "Upload, describe, version and publish modules.",
            "help/authors.md",
        ),
        HelpPage(
            "hub",
            "Use it with hf, peft and transformers",
            "Use this site in place of huggingface.co.",
            "help/hub.md",
        ),
        HelpPage("api", "The API", "Everything the pages do, from a program.", "api.md"),
    ),
    "Reference": (
        HelpPage("glossary", "Glossary", "The terms this site uses.", "glossary.md"),
        HelpPage(
            "examples",
            "Formats of examples",
            "JSON, tables and common dataset formats.",
            "core/examples.md",
        ),
        HelpPage(
            "prompts", "What the model reads", "Templates, and where the answer begins.", "core/prompts.md"
        ),
        HelpPage(
            "command-line",
            "From the command line",
            "Methods and searches, without a site.",
            "core/composing.md",
        ),
        HelpPage(
            "python", "From Python", "Compose, evaluate and screen in your own program.", "core/python.md"
        ),
        HelpPage("report", "Fields of a report", "report.json and the events of a job.", "core/report.md"),
    ),
    "Operate": (
        HelpPage("operators", "For operators", "Run the site: settings, workers, staff.", "operating.md"),
    ),
}
PAGES: Mapping[str, HelpPage] = {page.slug: page for group in GROUPS.values() for page in group}
SLUG_OF_SOURCE = {page.source: page.slug for page in PAGES.values()}


@dataclass
class Section:
    """A part of a page that has an address: what stands below a heading, a term, or a kind of refusal."""

    title: str
    anchor: str  # empty: the beginning of the page
    text: str = ""


@dataclass
class ReadPage:
    """A page as it is shown. Args: html: with EXAMPLE_ADDRESS in it."""

    html: str
    sections: list[Section]
    contents: list[Section] = field(default_factory=list)  # those with a heading of the second level

    def html_at(self, address: str) -> str:
        """The page with the address that the reader knows this site by."""
        return self.html.replace(EXAMPLE_ADDRESS, escape(address))


@cache
def read_page(slug: str) -> ReadPage:
    """Read, once, the Markdown of a page.

    Raises:
        KeyError: there is no such page.
    """
    page = PAGES[slug]
    text = (settings.BASE_DIR / DOCS / page.source).read_text(encoding="utf-8")
    if slug == "glossary":
        text = re.sub(r"\n(?=\*\*)", "\n\n", text)  # each term is a paragraph
    tokens = without_title(MARKDOWN.parse(text))
    sections = sections_of(tokens)
    label_cells(tokens)
    for token in tokens:
        resolve(token.children or [], (DOCS / page.source).parent)
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    contents = [
        Section(text_of(inline), str(opening.attrs["id"]))
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open" and opening.tag == "h2"
    ]
    if REFUSALS in html:
        html = html.replace(REFUSALS, render_to_string("pages/_refusals.html", {"refusals": TABLES}))
        sections += refusal_sections()
    return ReadPage(html, sections, contents)


def refusal_sections() -> Iterator[Section]:
    for rows in TABLES.values():
        for code, row in rows.items():
            yield Section(code, f"refusal-{code}", f"{row.cause} {row.remedy}")


def without_title(tokens: list[Token]) -> list[Token]:
    """The template shows the title."""
    return tokens[3:] if tokens and tokens[0].tag == "h1" else tokens


def sections_of(tokens: Sequence[Token]) -> list[Section]:
    """The sections in order; headings, and the terms of the glossary, get their ids here."""
    sections, taken = [Section("", "")], set[str]()
    for opening, token in pairwise(tokens):
        title = title_of(opening, token)
        if title:
            anchor = free_anchor(title, taken)
            opening.attrSet("id", anchor)
            sections.append(Section(title, anchor))
        elif token.type == "inline":
            sections[-1].text += f" {text_of(token)}"
        if title and opening.type == "paragraph_open":
            sections[-1].text += text_of(token).removeprefix(title)
        if token.type in ("fence", "code_block"):
            sections[-1].text += f" {token.content}"
    return [section for section in sections if section.title or section.text.strip()]


def title_of(opening: Token, inline: Token) -> str:
    """The title of a section that begins here, else nothing."""
    if opening.type == "heading_open":
        return text_of(inline)
    children = [child for child in inline.children or [] if child.content or child.type != "text"]
    kinds = [child.type for child in children[:2]]
    is_term = opening.type == "paragraph_open" and kinds == ["strong_open", "text"]
    # A term of the glossary is followed by a dash; other paragraphs may begin with bold words, too.
    is_defined = is_term and any(" — " in child.content for child in children[2:16])
    return children[1].content if is_defined and opening.level == 0 else ""


def free_anchor(title: str, taken: set[str]) -> str:
    """An id as GitHub makes it, so that links hold in both places."""
    base = slugify(title) or "section"
    anchor = next(name for n in range(len(taken) + 1) if (name := f"{base}-{n}" if n else base) not in taken)
    taken.add(anchor)
    return anchor


def text_of(inline: Token) -> str:
    return "".join(
        child.content if child.type in TEXT_TOKENS else " " if child.type.endswith("break") else ""
        for child in inline.children or []
    )


def label_cells(tokens: Sequence[Token]) -> None:
    """Give each cell of a table the name of its column: on a phone a row is a list. No cell has a style."""
    names: list[str] = []
    column = 0
    for opening, inline in pairwise(tokens):
        if opening.type in ("th_open", "td_open") and opening.attrs.pop("style", ""):  # a column of numbers
            opening.attrSet("class", "num")
        match opening.type:
            case "table_open":
                names = []
            case "tr_open":
                column = 0
            case "th_open":
                names.append(text_of(inline))
            case "td_open":
                if column < len(names) and names[column]:
                    opening.attrSet("data-label", names[column])
                column += 1


def resolve(children: Sequence[Token], folder: Path) -> None:
    """Let links to other files lead to their pages, and pictures to their static files.

    What is in the repository alone has no page: of such a link only the text is shown.
    """
    is_dropped = False
    for token in children:
        if token.type == "link_open":
            address = page_address(str(token.attrs["href"]), folder)
            is_dropped = not address
            token.attrSet("href", address)
        if token.type in ("link_open", "link_close") and is_dropped:
            token.type, token.content = "text", ""
        elif token.type == "image":
            token.type = "html_inline"
            token.content = picture_html(normal(folder / str(token.attrs["src"])), token.content)


def page_address(href: str, folder: Path) -> str:
    """Where a link of a file leads on this site; empty where there is no page for it."""
    target, _, anchor = href.partition("#")
    if not target or target.startswith(("/", "http:", "https:", "mailto:")):
        return href
    source = normal(folder / target)
    slug = SLUG_OF_SOURCE.get(str(source.relative_to(DOCS))) if source.is_relative_to(DOCS) else None
    if slug is None:
        return ""
    return PAGES[slug].get_absolute_url() + (f"#{anchor}" if anchor else "")


def normal(path: Path) -> Path:
    """The path without “..”, from the root of the repository."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def picture_html(path: Path, alt: str) -> str:
    """A picture in both themes; its dark twin lies beside it."""
    name = path.relative_to(STATIC)
    addresses = {"light": static(str(name)), "dark": static(str(name.with_stem(f"{name.stem}-dark")))}
    return "".join(
        f'<img class="picture picture--{theme}" src="{escape(address)}" alt="{escape(alt)}" loading="lazy"'
        f' width="{PICTURE_WIDTH}" height="{PICTURE_HEIGHT}">'
        for theme, address in addresses.items()
    )


def render_fence(_: object, tokens: Sequence[Token], index: int, *__: object) -> str:
    token = tokens[index]
    label = LABELS.get(token.info.strip(), "")
    return render_to_string("components/_snippet.html", {"label": label, "code": token.content.rstrip("\n")})


MARKDOWN.add_render_rule("fence", render_fence)
MARKDOWN.add_render_rule("code_block", render_fence)
MARKDOWN.add_render_rule(
    "table_open", lambda *_: '<div class="table-wrap"><table class="table table--stack">'
)
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>")
