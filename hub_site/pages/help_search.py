"""Finding a section of the help by words."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from django.urls import reverse

from hub_site.pages import limits
from hub_site.pages.help_pages import PAGES, read_page

RESULTS_MAX = 20
QUERY_CHARACTERS_MAX = 200
EXCERPT_CHARACTERS = 200
WORD = re.compile(r"\w+")
ENDINGS = ("ings", "ing", "ed", "es", "s", "e")
STEM_LENGTH_MIN = 4
STOP_WORDS = frozenset(
    "a an and are as at be by can do for how i in is it my not of on or the to what with".split()  # noqa: SIM905
)
TITLE_POINTS, PAGE_POINTS, TEXT_POINTS_MAX = 10, 3, 4


@dataclass(frozen=True)
class Place:
    """A section of the help that can be found."""

    page: str  # the page's title
    title: str  # the section's; empty: the beginning of the page
    url: str
    text: str

    @cached_property
    def title_stems(self) -> frozenset[str]:
        return frozenset(stems_of(self.title))

    @cached_property
    def page_stems(self) -> frozenset[str]:
        return frozenset(stems_of(self.page))

    @cached_property
    def text_stems(self) -> Counter[str]:
        return Counter(stems_of(self.text))


@dataclass(frozen=True)
class Found:
    """A place, and the part of its text that has the words: `parts` in turn without and with a mark."""

    place: Place
    parts: tuple[str, ...]

    @property
    def excerpt(self) -> str:
        return "".join(self.parts)

    @property
    def marked(self) -> list[tuple[str, bool]]:
        """Each part, and whether it is one of the words that were looked for."""
        return [(part, number % 2 == 1) for number, part in enumerate(self.parts)]


def find_in_help(query: str) -> list[Found]:
    """The sections that have all words of a query, best first; where none has all, those with most."""
    wanted = list(dict.fromkeys(stems_of(query[:QUERY_CHARACTERS_MAX])))
    wanted = [stem for stem in wanted if stem not in STOP_WORDS] or wanted
    if not wanted:
        return []
    phrase = " ".join(query.lower().split())
    scored = [(matches(place, wanted, phrase), place) for place in (*page_places(), *limit_places())]
    most = max(len(points) for points, _ in scored)
    if not most:
        return []
    best = [(sum(points), place) for points, place in scored if len(points) == most]
    best.sort(key=lambda row: -row[0])  # equal ones stay in the order of the help
    return [Found(place, excerpt(place.text, wanted)) for _, place in best[:RESULTS_MAX]]


@cache
def page_places() -> tuple[Place, ...]:
    """Every section of the pages that are files, in order."""
    found = []
    for page in PAGES.values():
        address = page.get_absolute_url()
        for section in read_page(page.slug).sections:
            url = f"{address}#{section.anchor}" if section.anchor else address
            found.append(Place(page.title, section.title, url, " ".join(section.text.split())))
    return tuple(found)


def limit_places() -> Iterator[Place]:
    for number, (title, rows) in enumerate(limits.groups(), start=1):
        text = " ".join(f"{row.what}: {row.value}. {row.then}" for row in rows)
        yield Place("Limits", title, f"{reverse('pages:limits')}#group-{number}", text)


def matches(place: Place, wanted: Sequence[str], phrase: str) -> list[int]:
    """The points of each word that the place has; more for the first where the whole query stands there."""
    points = [points for stem in wanted if (points := points_of(place, stem))]
    if points and phrase in place.text.lower():
        points[0] += TITLE_POINTS
    return points


def points_of(place: Place, stem: str) -> int:
    in_title = TITLE_POINTS * has_stem(place.title_stems, stem)
    n_in_text = sum(n for word, n in place.text_stems.items() if word.startswith(stem))
    points = in_title + min(TEXT_POINTS_MAX, n_in_text)
    if points or not place.title:
        points += PAGE_POINTS * has_stem(place.page_stems, stem)
    is_its_title = len(place.title_stems) == 1 and stem in place.title_stems  # as of a term of the glossary
    return points + TITLE_POINTS * is_its_title


def has_stem(words: Iterable[str], stem: str) -> bool:
    return any(word.startswith(stem) for word in words)


def stems_of(text: str) -> Iterator[str]:
    return (stem_of(word) for word in WORD.findall(text.lower()))


def stem_of(word: str) -> str:
    """The word without the ending of a plural or of a verb, where enough is left."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= STEM_LENGTH_MIN:
            return word.removesuffix(ending)
    return word


def excerpt(text: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """About EXCERPT_CHARACTERS around the first word that was looked for, cut at words."""
    first = next((match.start() for match in WORD.finditer(text) if is_wanted(match[0], wanted)), 0)
    begin = text.rfind(" ", 0, max(0, first - EXCERPT_CHARACTERS // 4)) + 1
    end = begin + EXCERPT_CHARACTERS
    end = len(text) if end >= len(text) else max(text.rfind(" ", begin, end), begin + EXCERPT_CHARACTERS // 2)
    shown = ("… " if begin else "") + text[begin:end] + (" …" if end < len(text) else "")
    parts, at = [], 0
    for match in WORD.finditer(shown):
        if is_wanted(match[0], wanted):
            parts += [shown[at : match.start()], match[0]]
            at = match.end()
    return (*parts, shown[at:])


def is_wanted(word: str, wanted: Sequence[str]) -> bool:
    return any(stem_of(word.lower()).startswith(stem) for stem in wanted)
