"""Reading the words of a search: stems, beginnings, synonyms, misspelled words."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import and_, or_

from django.contrib.postgres.search import SearchQuery
from django.db import connection

from modules_registry.models import SearchWord, SynonymGroup

WORDS_MAX = 8  # of one search
WORD = re.compile(r"[^\W_]+")
TERM = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\W_]+))')
SIGNS = "+#&/"  # beside one letter they make another meaning of it
LETTERS = re.compile(r"[^\W\d_]{2,40}")
BEGINNING_LENGTH_MIN = 2  # a shorter word stands for itself alone
MISSPELLED_LENGTH_MIN = 4
NEAR_MAX = 3  # words taken for a misspelled one
BEGINNINGS_MAX = 8  # words that begin like one
LONG_WORD = 8  # letters; such a word may have two mistakes

# Of each word: its stem (none: a word like “the”), and the stems of known words that begin with it.
STEMS = "SELECT word, (ts_lexize('english_stem', word))[1] FROM unnest(%s::text[]) AS word"
NEAR = """
SELECT typed, near.word, near.n_modules
FROM unnest(%s::text[]) AS typed
CROSS JOIN LATERAL (
    SELECT word, n_modules FROM modules_registry_searchword
    WHERE word %% typed ORDER BY similarity(word, typed) DESC LIMIT 12
) AS near
"""
ADD_WORDS = """
INSERT INTO modules_registry_searchword (word, lexeme, n_modules)
SELECT word, lexeme, 1
FROM (SELECT word, (ts_lexize('english_stem', word))[1] AS lexeme FROM unnest(%s::text[]) AS word) AS stems
WHERE lexeme IS NOT NULL
ORDER BY word
ON CONFLICT (word) DO NOTHING
"""


@dataclass(frozen=True)
class WordGroup:
    """A word or phrase of a search, with everything that stands for it."""

    typed: str
    query: SearchQuery


@dataclass(frozen=True)
class SearchWords:
    """A search's words, read."""

    groups: tuple[WordGroup, ...] = ()
    without: SearchQuery | None = None  # what a module must not have
    taken_for: tuple[tuple[str, str], ...] = ()  # misspelled words, and what each was taken for

    def at_least(self, count: int) -> SearchQuery | None:
        """A query for modules with so many of the words; None: there are no words."""
        if not self.groups:
            return None
        queries = [group.query for group in self.groups]
        some = reduce(or_, (reduce(and_, chosen) for chosen in combinations(queries, count)))
        return some & self.without if self.without is not None else some

    @property
    def counts(self) -> tuple[int, ...]:
        """How many words to ask for: all, then all but one, then half, then one."""
        n = len(self.groups)
        return tuple(sorted({n, max(n - 1, 1), max((n + 1) // 2, 1), 1}, reverse=True)) if n else ()


def fold(text: str) -> str:
    """Lower case, without accents: how text is stored for the search, and how a search is read."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words_in(text: str) -> set[str]:
    """The words of a text as the vocabulary holds them."""
    return set(LETTERS.findall(fold(text)))


def words_add(words: Iterable[str]) -> None:
    """Add words to the vocabulary that misspelled ones are compared with."""
    with connection.cursor() as cursor:
        cursor.execute(ADD_WORDS, [sorted(words)])


def read_words(q: str) -> SearchWords:
    """Read what somebody typed: words, "phrases", -excluded words. At most three queries."""
    terms = [term for term in TERM.finditer(fold(q)) if not is_part_of_a_sign(term)][:WORDS_MAX]
    typed = [term["word"] for term in terms if term["word"] and not term["minus"]]
    stems = stems_of(typed)
    synonyms = synonyms_of(typed)
    beginnings = known_stems({word: stem for word, stem in stems.items() if stem})
    nears = near_words([word for word in typed if stems[word] and not beginnings[word] and word.isalpha()])
    groups, excluded = [], []
    for term in terms:
        if term["minus"]:
            excluded.append(
                ~SearchQuery(term["phrase"] or term["word"], config="english", search_type="phrase")
            )
        elif term["word"]:
            word = term["word"]
            if stems[word]:
                runs = [others for run, others in synonyms.items() if word in run.split()]
                same = [*(other for others in runs for other in others), *nears.get(word, ())]
                groups.append(WordGroup(word, word_query(word, beginnings[word], same)))
        elif WORD.search(term["phrase"]):
            phrase = SearchQuery(term["phrase"], config="english", search_type="phrase")
            groups.append(WordGroup(term["phrase"], phrase))
    return SearchWords(
        tuple(groups),
        reduce(and_, excluded) if excluded else None,
        tuple((word, near[0]) for word, near in nears.items() if near),
    )


def is_part_of_a_sign(term: re.Match[str]) -> bool:
    """Whether it is one letter of something that is no word, like “c++”, “c#” or “r&d”."""
    around = term.string[max(term.start() - 1, 0) : term.start()], term.string[term.end() : term.end() + 1]
    return len(term["word"] or "") == 1 and any(sign and sign in SIGNS for sign in around)


def word_query(word: str, beginnings: Iterable[str], same: Iterable[str]) -> SearchQuery:
    """Whatever stands for one word: its stem, words that begin with it, synonyms, near words."""
    queries = [SearchQuery(word, config="english", search_type="plain")]
    if len(word) >= BEGINNING_LENGTH_MIN:
        queries.append(SearchQuery(f"{word}:*", config="simple", search_type="raw"))
    queries += [SearchQuery(stem, config="simple", search_type="plain") for stem in beginnings]
    queries += [SearchQuery(other, config="english", search_type="phrase") for other in same]
    return reduce(or_, queries)


def stems_of(words: Sequence[str]) -> dict[str, str | None]:
    """The stem of each word; None for those that are in every text, like “the”."""
    if not words:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(STEMS, [list(words)])
        return dict(cursor.fetchall())


def known_stems(stems: Mapping[str, str]) -> dict[str, list[str]]:
    """Of each word: stems of the commonest known words that begin with it or share its stem.

    Nothing is known of a word that nobody uses, nor any that begins like it: it may be misspelled.

    Args:
        stems: of each word.
    """
    found: dict[str, list[str]] = {word: [] for word in stems}
    if not stems:
        return found
    known = [SearchWord.objects.filter(lexeme__in=stems.values()).values_list("word", "lexeme")]
    for word in stems:
        if len(word) >= BEGINNING_LENGTH_MIN:
            begins = SearchWord.objects.filter(word__startswith=word).values_list("word", "lexeme")
            known.append(begins.order_by("-n_modules", "word")[:BEGINNINGS_MAX])
    first, *others = known
    for word, lexeme in first.union(*others, all=True):
        for typed, stem in stems.items():
            if (word.startswith(typed) or lexeme == stem) and lexeme not in found[typed]:
                found[typed].append(lexeme)
    return found


def near_words(misspelled: Sequence[str]) -> dict[str, list[str]]:
    """Of each word that is not known: the known words nearest to it, the likeliest first."""
    asked = [word for word in dict.fromkeys(misspelled) if len(word) >= MISSPELLED_LENGTH_MIN]
    if not asked:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(NEAR, [asked])
        rows = cursor.fetchall()
    found = {}
    for typed in asked:
        most = 2 if len(typed) >= LONG_WORD else 1
        distances = [(mistakes(typed, word), -n, word) for of, word, n in rows if of == typed]
        near = sorted(each for each in distances if each[0] <= most)
        found[typed] = [word for distance, _, word in near if distance == near[0][0]][:NEAR_MAX]
    return found


def mistakes(one: str, other: str) -> int:
    """How many letters are missing, added, wrong or exchanged with the next one.

    Source: the optimal string alignment distance.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, right in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def synonyms_of(words: Sequence[str]) -> dict[str, list[str]]:
    """Of each word or run of words: what staff have declared to mean the same."""
    if not words:
        return {}
    runs = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 4, len(words) + 1))}
    found: dict[str, list[str]] = {}
    for text in SynonymGroup.objects.values_list("words", flat=True):
        group = [" ".join(WORD.findall(fold(part))) for part in text.split(",")]
        for run in runs.intersection(group):
            found.setdefault(run, []).extend(other for other in group if other and other != run)
    return found
