"""What can be asked of a text, and the answer to it.

An answer is form(ask(text)): what is asked (the past tense, the capital), and the form in which the
answer is written (in quotation marks, as JSON). No prompt says which: only a module or the examples do.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from demo.english.words import EnglishExample, Part, kinds, of_part, pairs

LIST_LENGTH = 3  # words to choose from
LISTS = 400  # lists drawn for each part


@dataclass(frozen=True)
class Ask:
    """Something to be found out about a text."""

    name: str
    title: str
    does: str
    examples: Callable[[Part], tuple[EnglishExample, ...]]


@dataclass(frozen=True)
class Form:
    """A way to write an answer down."""

    name: str
    title: str
    does: str
    write: Callable[[str], str]


def listed(*names: str, answer: int = 1) -> Callable[[Part], tuple[EnglishExample, ...]]:
    """Answers that stand in a list."""
    return lambda part: of_part(pairs(*names, answer=answer), part)


# --- answers found by a rule ----------------------------------------------------

DOUBLED = frozenset(
    ("run", "sit", "get", "put", "cut", "hit", "let", "set", "win", "begin", "swim", "dig", "spin", "forget")
)
GROUPS = {
    "living thing": ("animal", "bird", "fish", "insect"),
    "food": ("fruit", "vegetable", "drink"),
    "object": ("clothing", "furniture", "tool", "vehicle", "instrument"),
}
TEENS = ("ten", "eleven", "twelve", *(f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven")))
UP_TO_NINE = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ONES = (*UP_TO_NINE, *TEENS, "eighteen", "nineteen")
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def verbs(part: Part) -> tuple[EnglishExample, ...]:
    """Verbs with their past tense, our own first."""
    return of_part(pairs("verbs", "fv_present_past"), part)


def ing_forms(part: Part) -> tuple[EnglishExample, ...]:
    return tuple(EnglishExample(verb, ing_form(verb, past)) for verb, past in verbs(part))


def ing_form(verb: str, past: str) -> str:
    """Return the present participle; the past tense tells whether the last consonant doubles."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    doubles = past == f"{verb}{verb[-1]}ed" or verb in DOUBLED
    return verb + (verb[-1] if doubles else "") + "ing"


def denied(part: Part) -> tuple[EnglishExample, ...]:
    return tuple(EnglishExample(verb, f"did not {verb}") for verb, _ in verbs(part))


def going_on(part: Part) -> tuple[EnglishExample, ...]:
    return tuple(EnglishExample(verb, f"is {ing}") for verb, ing in ing_forms(part))


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def third_persons(part: Part) -> tuple[EnglishExample, ...]:
    return tuple(EnglishExample(verb, third_person(verb)) for verb, _ in verbs(part))


def third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def kinds_of_things(part: Part) -> tuple[EnglishExample, ...]:
    """Every thing that is of one kind only."""
    rows = [EnglishExample(word, kind) for kind, words in kinds().items() for word in words]
    words = [row.input for row in rows]
    return of_part((row for row in rows if words.count(row.input) == 1), part)


def groups_of_things(part: Part) -> tuple[EnglishExample, ...]:
    group_of = {kind: group for group, members in GROUPS.items() for kind in members}
    rows = kinds_of_things(part)
    return tuple(EnglishExample(word, group_of[kind]) for word, kind in rows if kind in group_of)


def numbers(part: Part) -> tuple[EnglishExample, ...]:
    return of_part((EnglishExample(str(n), number_in_words(n)) for n in range(1000)), part)


def number_in_words(n: int) -> str:
    """Return a number below 1000 in words, as in British English."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    rest = f" and {number_in_words(n % 100)}" if n % 100 else ""
    return f"{ONES[n // 100]} hundred{rest}"


def lists_of_nouns(part: Part, choose: Callable[[list[str]], str]) -> tuple[EnglishExample, ...]:
    random = Random(f"lists {part}")
    nouns = [noun for noun, _ in of_part(pairs("ii_singular_plural"), part)]
    drawn = [random.sample(nouns, LIST_LENGTH) for _ in range(LISTS)]
    return tuple(EnglishExample(", ".join(words), choose(words)) for words in drawn)


def nouns(part: Part) -> tuple[str, ...]:
    return tuple(noun for noun, _ in of_part(pairs("ii_singular_plural"), part))


def of_nouns(answer: Callable[[str], str]) -> Callable[[Part], tuple[EnglishExample, ...]]:
    """Answers that a rule spells from a noun."""
    return lambda part: tuple(EnglishExample(noun, answer(noun)) for noun in nouns(part))


def reviews(part: Part) -> tuple[EnglishExample, ...]:
    """The sentiment in other words than the module's."""
    stars = {"positive": "good", "negative": "bad"}
    return tuple(EnglishExample(text, stars[label]) for text, label in of_part(pairs("ii_sentiment"), part))


def texts(part: Part) -> tuple[EnglishExample, ...]:
    """Words and short texts of every sort, as they are: for modules that only know a form."""
    found = (row.input for ask in ASKS.values() if ask.name not in NO_TEXTS for row in ask.examples(part))
    return tuple(EnglishExample(text, text) for text in dict.fromkeys(found))


NO_TEXTS = ("texts", "numbers", "last")
TEXTS = "texts"
PLAIN = "plain"


def _asks(*asks: Ask) -> dict[str, Ask]:
    return {ask.name: ask for ask in asks}


ASKS = _asks(
    Ask(TEXTS, "The text itself", "repeat the text", texts),
    Ask("past", "Past tense", "give the past tense of the verb", verbs),
    Ask("ing", "Present participle", "give the -ing form of the verb", ing_forms),
    Ask("plural", "Plural", "give the plural of the noun", listed("ii_singular_plural")),
    Ask(
        "negated",
        "Negative prefix",
        "give the opposite that begins with un-, in- or dis-",
        listed("negated"),
    ),
    Ask("comparative", "Comparative", "give the comparative of the adjective", listed("adjectives")),
    Ask("kind", "Kind of thing", "name the kind of thing it is", kinds_of_things),
    Ask("adverb", "Adverb", "give the adverb of the adjective", listed("adverbs")),
    Ask("possessive", "Possessive", "give the possessive of the noun", of_nouns(lambda noun: f"{noun}'s")),
    Ask("continent", "Continent", "name the continent of the country", listed("countries")),
    Ask("sentiment", "Sentiment", "say whether the review is positive or negative", listed("ii_sentiment")),
    Ask("negation", "Negation", "say that the sentence is not so", listed("ii_negation")),
    Ask("passive", "Passive voice", "put the sentence into the passive voice", listed("ii_active_passive")),
    Ask("numbers", "Number in words", "write the number in words", numbers),
    Ask("article", "Article", "put a or an before the noun", of_nouns(with_article)),
    Ask("third", "Third person", "give the third person of the verb", third_persons),
    # The modules know none of these; two of them did not learn enough.
    Ask(
        "superlative", "Superlative", "give the superlative of the adjective", listed("adjectives", answer=2)
    ),
    Ask("denied", "Denied", "say that it was not done", denied),
    Ask("ongoing", "Going on", "say that it is being done", going_on),
    Ask("group", "Living, food or object", "say whether it lives, is food or is an object", groups_of_things),
    Ask("review", "Good or bad", "say whether the review is good or bad", reviews),
    Ask(
        "last",
        "Last of a list",
        "pick the last word of the list",
        lambda p: lists_of_nouns(p, lambda w: w[-1]),
    ),
    Ask("letters", "Letter count", "count the letters of the word", of_nouns(lambda noun: str(len(noun)))),
    Ask("backwards", "Backwards", "spell the word backwards", of_nouns(lambda noun: noun[::-1])),
    Ask("end", "Last letter", "give the last letter of the word", of_nouns(lambda noun: noun[-1])),
)


def _forms(*forms: Form) -> dict[str, Form]:
    return {form.name: form for form in forms}


FORMS = _forms(
    Form(PLAIN, "Plain", "as it is", lambda text: text),
    Form("quotes", "Quotation marks", "in quotation marks", lambda text: f'"{text}"'),
    Form("brackets", "Brackets", "in square brackets", lambda text: f"[{text}]"),
    Form("json", "JSON", "as JSON", lambda text: json.dumps({"answer": text}, ensure_ascii=False)),
    Form("answer", "Answer:", "after “Answer:”", lambda text: f"Answer: {text}"),
    Form("shout", "Exclamation marks", "with three exclamation marks", lambda text: f"{text}!!!"),
    Form("bold", "HTML bold", "in bold as HTML", lambda text: f"<b>{text}</b>"),
    Form("saying", "I would say", "after “I would say:”", lambda text: f"I would say: {text}"),
    Form("stars", "Stars", "between stars", lambda text: f"*** {text} ***"),
    Form("upper", "Capitals", "in capitals", str.upper),
)
