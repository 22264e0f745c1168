"""What a rendered page asks of the browser: its static files, and anything our content policy would block."""

from html.parser import HTMLParser


class Page(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.addresses: list[str] = []  # what the browser fetches by itself
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.labels: set[str] = set()
        self.unlabelled: list[str] = []  # fields without a word of their own, by id; a <label> may name them
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.note_inline(tag, given)
        if tag == "link" or (tag == "use" and not (given.get("href") or "").startswith("#")):
            self.addresses.append(given.get("href") or "")
        if tag in ("a", "use"):
            self.links.append(given.get("href") or "")
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.addresses.append(given["src"] or "")
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "label":
            self.labels.add(given.get("for") or "")
        if tag in ("input", "select", "textarea") and given.get("type") not in ("hidden", "submit"):
            self.note_field(given)

    def note_field(self, given: dict[str, str | None]) -> None:
        if not given.get("aria-label"):
            self.unlabelled.append(given.get("id") or "")

    def note_inline(self, tag: str, given: dict[str, str | None]) -> None:
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(f"<{tag}>")
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


def collapsed(markup: str) -> str:
    """The markup with one space for every run of white space, as a browser shows it."""
    return " ".join(markup.split())
