"""Reading the words of a search: stems, beginnings, synonyms, misspelled words."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, combinations, islice
from operator import and_, or_
from typing import Any, NamedTuple

from django.contrib.postgres.search import SearchQuery
from django.db import connection

from modules_registry.core.common_words import is_common
from modules_registry.models import SearchWord, SynonymGroup

WORDS_MAX = 8  # of one search
WORD = re.compile(r"[^\W_]+")
TERM = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\W_]+))')
SIGNS = "+#&/"  # beside one letter they make another meaning of it
LETTERS = re.compile(r"[^\W\d_]{2,40}")
COMPOUND = re.compile(r"(?<![\w-])[^\W\d_]+(?:-[^\W\d_]+){1,2}(?![\w-])")
SAID_IN = "AB"  # weights of the text: of the name, and of sentence, tags and base
# Endings, from British to American spelling and back.
AMERICAN = (
    (re.compile(r"(?<=\w{3})is(e|es|ed|er|ers|ing|ation|ations)\Z"), r"iz\1"),
    (re.compile(r"(?<=\w{2})ys(e|es|ed|er|ers|ing)\Z"), r"yz\1"),
    (re.compile(r"(?<=\w{2})our(s|ed|ing|ful|ite|ites)?\Z"), r"or\1"),
    (re.compile(r"(?<=\w{3})ogue(s?)\Z"), r"og\1"),
)
BRITISH = (
    (re.compile(r"(?<=\w{3})iz(e|es|ed|er|ers|ing|ation|ations)\Z"), r"is\1"),
    (re.compile(r"(?<=\w{2})yz(e|es|ed|er|ers|ing)\Z"), r"ys\1"),
    (re.compile(r"(?<=\w{2})or(s|ed|ing|ful|ite|ites)?\Z"), r"our\1"),
    (re.compile(r"(?<=\w{3})og(s?)\Z"), r"ogue\1"),
)
BEGINNING_LENGTH_MIN = 2  # a shorter word stands for itself alone
MISSPELLED_LENGTH_MIN = 3
INFLECTIONS = ("s", "es", "ed", "er", "ers", "ing", "ings", "ly")
SHORT_WORD = 3  # letters; in such a word one may be missing or exchanged, but none wrong or too many
BESIDE_MAX = 6  # words of the library that are offered where nothing matches
ALIKE_BEGINNING = 3  # letters
NEAR_MAX = 3  # words taken for a misspelled one
BEGINNINGS_MAX = 8  # words that begin like one
LONG_WORD = 8  # letters; such a word may have two mistakes
LATIN = frozenset("abcdefghijklmnopqrstuvwxyz")
SCRIPT_BLOCK = 64  # letters of one script stand together in Unicode
VARIANTS_MAX = 4000  # of one word; that is 40 Latin letters

# Of each word: its stem (none: a word like “the”), and the stems of known words that begin with it.
STEMS = "SELECT word, (ts_lexize('english_stem', word))[1] FROM unnest(%s::text[]) AS word"
# Of each word that is known in some ending, or whose stem is one of a synonym: its stem, the known word (the
# very same if there is one), and how many modules have it.
KNOWN = """
SELECT asked.word, asked.lexeme, coalesce(known.word, ''), coalesce(known.n_modules, 0)
FROM (
    SELECT word, (ts_lexize('english_stem', word))[1] AS lexeme FROM unnest(%(words)s::text[]) AS word
) AS asked
LEFT JOIN LATERAL (
    SELECT word, n_modules FROM modules_registry_searchword
    WHERE lexeme = asked.lexeme ORDER BY word <> asked.word, length(word), word LIMIT 1
) AS known ON true
WHERE known.word IS NOT NULL OR asked.lexeme = ANY(%(stems)s::text[])
"""
ALIKE = """
SELECT typed, near.word, near.lexeme, near.n_modules
FROM unnest(%s::text[]) AS typed
CROSS JOIN LATERAL (
    SELECT word, lexeme, n_modules FROM modules_registry_searchword
    WHERE word %% typed ORDER BY similarity(word, typed) DESC LIMIT 12
) AS near
"""
# Known words that look like each typed one, then those that begin like it, the commonest first.
BESIDE = """
SELECT found.word FROM unnest(%(typed)s::text[]) AS typed
CROSS JOIN LATERAL (
    (SELECT word, similarity(word, typed) AS likeness, n_modules FROM modules_registry_searchword
     WHERE word %% typed ORDER BY likeness DESC, n_modules DESC, word LIMIT %(count)s)
    UNION ALL
    (SELECT word, 0, n_modules FROM modules_registry_searchword
     WHERE word >= left(typed, %(length)s) AND word < left(typed, %(length)s) || chr(1114111)
     ORDER BY n_modules DESC, word LIMIT %(count)s)
) AS found
ORDER BY found.likeness DESC, found.n_modules DESC, found.word
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
    said: SearchQuery  # the word itself, in whatever ending or spelling, in a name, a sentence or a tag


class KnownWord(NamedTuple):
    """A word of the library, or one that staff declared a synonym."""

    word: str
    stem: str
    n_modules: int  # none of a synonym that no module uses


@dataclass(frozen=True)
class SearchWords:
    """A search's words, read."""

    groups: tuple[WordGroup, ...] = ()
    without: SearchQuery | None = None  # what a module must not have
    taken_for: tuple[tuple[str, str], ...] = ()  # misspelled words, and what each was taken for
    signs: tuple[str, ...] = ()  # what is no word, like “c++”: it is not searched

    def at_least(self, count: int) -> SearchQuery | None:
        """A query for modules with so many of the words; None: there are no words."""
        if not self.groups:
            return None
        queries = [group.query for group in self.groups]
        return reduce(or_, (reduce(and_, chosen) for chosen in combinations(queries, count)))

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


def joined_words(text: str) -> list[str]:
    """Of each word of a text that is written with hyphens, “x-ray”: the same without, “xray”."""
    joined = (compound.replace("-", "") for compound in COMPOUND.findall(text))
    return [word for word in dict.fromkeys(joined) if LETTERS.fullmatch(word)]


def spellings(word: str) -> list[str]:
    """The other ways to spell a word that end it as British or American English does."""
    found = [pattern.sub(ending, word) for pattern, ending in (*AMERICAN, *BRITISH)]
    return [other for other in dict.fromkeys(found) if other != word]


def american(word: str) -> str:
    """A word with the ending of American English, by which synonyms are compared."""
    return next((made for pattern, ending in AMERICAN if (made := pattern.sub(ending, word)) != word), word)


def read_words(q: str) -> SearchWords:
    """Read what somebody typed: words, "phrases", -excluded words. At most five queries.

    A word that nobody uses is taken for a known word or a synonym that is near, unless it is a common word.
    """
    text = fold(q)
    terms = [term for term in TERM.finditer(text) if not is_part_of_a_sign(term)][:WORDS_MAX]
    typed = [term["word"] for term in terms if term["word"] and not term["minus"]]
    forms = {word: [word, *spellings(word)] for word in typed}
    declared = declared_synonyms() if typed else []
    own = {form for each in forms.values() for form in each}
    stems = stems_of(own | {american(word) for part in (*typed, *chain(*declared)) for word in part.split()})
    joined = joined_in(text)
    stems_asked = {
        word: {stem for form in each if (stem := stems[form])} for word, each in forms.items() if stems[word]
    }
    beginnings = known_stems(stems_asked)
    synonyms = synonyms_of(typed, declared, stems)
    has_synonyms = {word for run in synonyms for word in run.split()}
    unknown = [
        word
        for word in stems_asked
        if not beginnings[word] and word not in has_synonyms and word not in joined and word.isalpha()
    ]
    declared_words = [word for run in chain(*declared) for word in map(american, run.split())]
    nears = near_words(unknown, {stem: word for word in declared_words if (stem := stems[word])})
    meant = {word: next(iter(near)) for word, near in nears.items() if near}
    if meant:
        stems |= {american(word): nears[typed][word].stem for typed, word in meant.items()}
        synonyms = synonyms_of([meant.get(word, word) for word in typed], declared, stems)
    groups, excluded = [], []
    for term in terms:
        if term["minus"]:
            excluded.append(
                ~SearchQuery(term["phrase"] or term["word"], config="english", search_type="phrase")
            )
        elif term["word"]:
            word = term["word"]
            if stems[word]:
                itself = [*forms[word], *joined.get(word, ())]
                runs = [others for run, others in synonyms.items() if meant.get(word, word) in run.split()]
                same = [*(other for others in runs for other in others), *nears.get(word, ())]
                query = word_query(word, itself, beginnings[word], same)
                groups.append(WordGroup(word, query, said_query(word, itself, beginnings[word])))
        elif WORD.search(term["phrase"]):
            phrase = SearchQuery(term["phrase"], config="english", search_type="phrase")
            groups.append(WordGroup(term["phrase"], phrase, phrase))
    return SearchWords(
        tuple(groups),
        reduce(and_, excluded) if excluded else None,
        tuple(meant.items()),
        tuple(chunk for chunk in text.split() if is_sign(chunk)),
    )


def without_exclusions(q: str) -> str:
    """What somebody typed without the -excluded words."""
    found = TERM.sub(lambda term: "" if term["minus"] else term[0], q)
    return q if found == q else " ".join(found.split())


def is_part_of_a_sign(term: re.Match[str]) -> bool:
    """Whether it is one letter of something that is no word, like “c++”, “c#” or “r&d”."""
    around = term.string[max(term.start() - 1, 0) : term.start()], term.string[term.end() : term.end() + 1]
    return len(term["word"] or "") == 1 and any(sign and sign in SIGNS for sign in around)


def is_sign(text: str) -> bool:
    """Whether no word is left of a text without what is part of a sign: “c++”, “+”."""
    terms = list(TERM.finditer(text))
    return not any(not is_part_of_a_sign(term) for term in terms) and bool(terms or set(text) & set(SIGNS))


def joined_in(text: str) -> dict[str, list[str]]:
    """Of each part of a word with hyphens: the whole word without them."""
    found: dict[str, list[str]] = {}
    for compound in COMPOUND.findall(text):
        for part in compound.split("-"):
            found.setdefault(part, []).append(compound.replace("-", ""))
    return found


def word_query(
    word: str, itself: Iterable[str], beginnings: Iterable[str], same: Iterable[str]
) -> SearchQuery:
    """Whatever stands for one word: its stem, words that begin with it, synonyms, near words.

    Args:
        itself: the word in each of its spellings.
        beginnings: stems.
    """
    queries = [SearchQuery(form, config="english", search_type="plain") for form in itself]
    if len(word) >= BEGINNING_LENGTH_MIN:
        queries.append(SearchQuery(f"{word}:*", config="simple", search_type="raw"))
    queries += [SearchQuery(stem, config="simple", search_type="plain") for stem in beginnings]
    queries += [SearchQuery(other, config="english", search_type="phrase") for other in same]
    return reduce(or_, queries)


def said_query(word: str, itself: Iterable[str], beginnings: Iterable[str]) -> SearchQuery:
    """The word itself, or one that begins with it, but in the text of a card alone."""
    queries = [SearchQuery(f"{form}:{SAID_IN}", config="english", search_type="raw") for form in itself]
    if len(word) >= BEGINNING_LENGTH_MIN:
        queries.append(SearchQuery(f"{word}:*{SAID_IN}", config="simple", search_type="raw"))
    queries += [SearchQuery(f"{stem}:{SAID_IN}", config="simple", search_type="raw") for stem in beginnings]
    return reduce(or_, queries)


def stems_of(words: Collection[str]) -> dict[str, str | None]:
    """The stem of each word; None for those that are in every text, like “the”."""
    if not words:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(STEMS, [list(words)])
        return dict(cursor.fetchall())


def known_stems(stems: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Of each word: stems of the commonest known words that begin with it or share its stem.

    Nothing is known of a word that nobody uses, nor any that begins like it: it may be misspelled.

    Args:
        stems: of each word, in each of its spellings.
    """
    found: dict[str, list[str]] = {word: [] for word in stems}
    if not stems:
        return found
    known = [SearchWord.objects.filter(lexeme__in=set().union(*stems.values())).values_list("word", "lexeme")]
    for word in stems:
        if len(word) >= BEGINNING_LENGTH_MIN:
            begins = SearchWord.objects.filter(word__startswith=word).values_list("word", "lexeme")
            known.append(begins.order_by("-n_modules", "word")[:BEGINNINGS_MAX])
    first, *others = known
    for word, lexeme in first.union(*others, all=True):
        for typed, own in stems.items():
            if (word.startswith(typed) or lexeme in own) and lexeme not in found[typed]:
                found[typed].append(lexeme)
    return found


def near_words(
    typed_words: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> dict[str, dict[str, KnownWord]]:
    """Of each word that is not known itself: what it was probably meant to be, the likeliest first.

    A word with one mistake is looked up by all that could have been meant, each by its stem; only of a long
    word for which that finds nothing, which may have two, trigrams are compared. At most two queries. Common
    English words are spelled as they were meant.

    Args:
        synonyms: by their stems, words that are known though no module uses them.

    Returns: by what was typed: what could have been meant, each with the library's word of the same stem.
    """
    synonyms = synonyms or {}
    long_enough = [word for word in dict.fromkeys(typed_words) if len(word) >= MISSPELLED_LENGTH_MIN]
    asked = [word for word in long_enough if not is_common(word)]
    if not asked:
        return {}
    variants = {typed: one_mistake_from(typed) for typed in asked}
    found: dict[str, dict[str, KnownWord]] = {}
    with connection.cursor() as cursor:
        words = sorted({*asked}.union(*variants.values()))
        cursor.execute(KNOWN, {"words": words, "stems": list(synonyms)})
        rows = [
            (word, KnownWord(here or synonyms[stem], stem, n)) for word, stem, here, n in cursor.fetchall()
        ]
        known = {word: same for word, same in rows if is_form_of(word, same)}
        variants = {typed: might_be for typed, might_be in variants.items() if typed not in known}
        for typed, might_be in variants.items():
            forms = sorted(might_be & known.keys(), key=lambda form: is_less_likely(form, known[form]))
            by_stem = {known[form].stem: form for form in reversed(forms)}
            found[typed] = {form: known[form] for form in reversed(by_stem.values())}
        long = [typed for typed in variants if len(typed) >= LONG_WORD and not found[typed]]
        if long:
            cursor.execute(ALIKE, [long])
            for typed, *like in sorted(cursor.fetchall(), key=lambda row: (-row[3], row[1])):
                if mistakes(typed, like[0]) <= 2:
                    found[typed][like[0]] = KnownWord(*like)
    return {typed: dict(islice(near.items(), NEAR_MAX)) for typed, near in found.items()}


def is_form_of(word: str, known: KnownWord) -> bool:
    """Whether a word is one with the stem of a known one, and not that bare stem: “plurals” and “plural” are
    forms of each other, “anim” is none of “animal”."""
    endings = ("", *INFLECTIONS)
    return word != known.stem or any(f"{word}{ending}" == known.word for ending in endings)


def is_less_likely(form: str, known: KnownWord) -> tuple[int, bool, str]:
    """The order of what could have been meant: what most modules have, then what they say themselves."""
    return -known.n_modules, form != known.word, form


def words_beside(q: str) -> list[str]:
    """The words of the library nearest to what was typed, to offer where that found nothing. One query.

    Those that look like one of the words come first, then those that begin like one.
    """
    typed = [word for word in dict.fromkeys(WORD.findall(fold(q))) if len(word) >= ALIKE_BEGINNING]
    if not typed:
        return []
    asked: dict[str, Any] = {"typed": typed[:WORDS_MAX], "count": BESIDE_MAX, "length": ALIKE_BEGINNING}
    with connection.cursor() as cursor:
        cursor.execute(BESIDE, asked)
        found = dict.fromkeys(word for (word,) in cursor.fetchall())
    return [word for word in found if word not in typed][:BESIDE_MAX]


def spelled_as_known(text: str) -> str:
    """A text with the likeliest known word in the place of each that is not known. At most two queries."""
    nears = near_words(WORD.findall(text))
    meant = {typed: next(iter(near.values())).word for typed, near in nears.items() if near}
    return WORD.sub(lambda found: meant.get(found[0], found[0]), text)


def one_mistake_from(word: str) -> set[str]:
    """Every text that differs from a word by one letter that is missing, added, wrong or exchanged with the
    next one; of a short word, only what has its letters all, in another order or with one more."""
    halves = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    letters = letters_beside(word)
    if len(word) * 2 * len(letters) > VARIANTS_MAX:
        letters = frozenset(word)
    swapped = {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    completed = {left + letter + right for left, right in halves for letter in letters}
    if len(word) <= SHORT_WORD:
        return (swapped | completed) - {word}
    shortened = {left + right[1:] for left, right in halves if right}
    replaced = {left + letter + right[1:] for left, right in halves if right for letter in letters}
    return (swapped | completed | shortened | replaced) - {word}


def letters_beside(word: str) -> frozenset[str]:
    """The letters that could have been meant in a word: those of its script."""
    blocks = {ord(letter) // SCRIPT_BLOCK for letter in word if letter not in LATIN}
    others = {chr(block * SCRIPT_BLOCK + i) for block in blocks for i in range(SCRIPT_BLOCK)}
    others = {letter for letter in others if letter.isalpha() and letter == fold(letter)}
    return (LATIN if LATIN & set(word) or not blocks else frozenset()) | others


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


def declared_synonyms() -> list[list[str]]:
    """What staff have declared to mean the same, by groups, as the search reads it."""
    groups = SynonymGroup.objects.values_list("words", flat=True)
    return [[" ".join(WORD.findall(fold(part))) for part in text.split(",")] for text in groups]


def synonyms_of(
    words: Sequence[str], declared: Iterable[Sequence[str]], stems: Mapping[str, str | None]
) -> dict[str, list[str]]:
    """Of each word or run of words: what means the same, whatever its ending.

    Args:
        declared: groups of words or runs of words.
        stems: of all these words in American spelling.
    """

    def key(run: str) -> str:
        spelled = map(american, run.split())
        return " ".join(stems.get(word) or word for word in spelled)

    spans = [(i, j) for i in range(len(words)) for j in range(i + 1, min(i + 4, len(words) + 1))]
    runs = {run: key(run) for run in (" ".join(words[i:j]) for i, j in spans)}
    found: dict[str, list[str]] = {}
    for group in declared:
        keys = {key(part) for part in group if part}
        for run, own in runs.items():
            if own in keys:
                found.setdefault(run, []).extend(part for part in group if part and part != run)
    return found
