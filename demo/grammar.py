"""What can be asked in the demo world, and the one right answer to it.

Every task is a combination of three skills: select a word, change the word, give it a
form. The answer is form(change(select(words))). An axis at its default asks nothing.

    pick the fruit ; in capitals : hat fig owl saw   ->  FIG      (pre-training)
    : hat fig owl saw                                ->  FIG      (a task of the hub)

A task of the hub carries no instruction: only examples, or a module, can tell the
model what is wanted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from demo.words import KINDS, PARTNERS, WORDS

LIST_LENGTH = 4  # words to select from, each of another kind


class DemoExample(NamedTuple):
    """A prompt and its only right answer."""

    input: str
    output: str


@dataclass(frozen=True)
class Skill:
    """One thing a module can do."""

    name: str
    title: str
    does: str  # in a sentence: "Pick the fruit from the list"
    phrases: tuple[str, ...] = ()  # ways to ask the base model for it


def _index(*skills: Skill) -> dict[str, Skill]:
    return {skill.name: skill for skill in skills}


SELECTORS = _index(
    *(
        Skill(
            kind,
            f"{kind.capitalize()} picker",
            f"pick the {kind} from the list",
            (f"pick the {kind}", f"which is {kind}"),
        )
        for kind in KINDS
    )
)
CHANGES = _index(
    Skill("french", "French", "say the word in French", ("in french", "translate to french")),
    Skill("spanish", "Spanish", "say the word in Spanish", ("in spanish", "translate to spanish")),
    Skill("plural", "Plural", "give the plural", ("in plural", "more than one")),
    Skill("kind", "Kind of thing", "name the kind of thing it is", ("name the kind", "what sort of thing")),
    Skill("letters", "Letter count", "count the letters", ("count letters", "how many letters")),
    Skill("initial", "First letter", "give the first letter", ("first letter", "give the initial")),
)
FORMS = _index(
    Skill("upper", "Capitals", "write it in capitals", ("in capitals", "upper case")),
    Skill("quotes", "Quotation marks", "put it between quotation marks", ("in quotes", "quote it")),
    Skill("brackets", "Square brackets", "put it in square brackets", ("in brackets", "put brackets around")),
    Skill("shout", "Exclamation mark", "add an exclamation mark", ("shout it", "say it loud")),
    Skill("answer", "Answer prefix", "begin with the word answer", ("as an answer", "begin with answer")),
    Skill("dots", "Three dots", "add three dots", ("with dots", "trail off")),
    Skill("star", "Stars", "put it between stars", ("with stars", "between stars")),
    Skill("the", "Article", "put the word the in front", ("with an article", "put the in front")),
)
# Never part of pre-training: the base model cannot know them.
UNTAUGHT_CHANGES = _index(
    Skill("partner", "Partner", "give the partner of the word"),
    Skill("german", "German", "say the word in German"),
    Skill("last", "Last letter", "give the last letter"),
)
SKILLS = SELECTORS | CHANGES | UNTAUGHT_CHANGES | FORMS

CHANGE: dict[str, Callable[[str], str]] = {
    "same": lambda word: word,
    "french": lambda word: WORDS[word].french,
    "spanish": lambda word: WORDS[word].spanish,
    "plural": lambda word: WORDS[word].plural,
    "kind": lambda word: WORDS[word].kind,
    "letters": lambda word: str(len(word)),
    "initial": lambda word: word[0],
    "partner": lambda word: PARTNERS[word],
    "german": lambda word: WORDS[word].german,
    "last": lambda word: word[-1],
}
FORM: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "upper": str.upper,
    "quotes": lambda text: f'" {text} "',
    "brackets": lambda text: f"[ {text} ]",
    "shout": lambda text: f"{text} !",
    "answer": lambda text: f"answer : {text}",
    "dots": lambda text: f"{text} ...",
    "star": lambda text: f"* {text} *",
    "the": lambda text: f"the {text}",
}


@dataclass(frozen=True)
class Combination:
    """A task: which word to take, what to make of it, how to write it."""

    select: str = "only"  # or the kind to pick from a list of words
    change: str = "same"
    form: str = "plain"

    @classmethod
    def of(cls, name: str) -> "Combination":
        """Read a name such as "animal-french-dots"."""
        skills = name.split("-")
        unknown = set(skills) - set(SKILLS)
        if unknown:
            raise ValueError(f"no such skill: {', '.join(sorted(unknown))}")
        chosen = {_axis(skill): skill for skill in skills}
        combination = cls(**chosen)
        if combination.name != name:
            raise ValueError(f"{name} should be written {combination.name}")
        return combination

    @property
    def skills(self) -> tuple[str, ...]:
        return tuple(skill for skill in (self.select, self.change, self.form) if skill in SKILLS)

    @property
    def name(self) -> str:
        return "-".join(self.skills)

    @property
    def takes_one_word(self) -> bool:
        return self.select == "only"

    @property
    def sentence(self) -> str:
        """What the task asks, in plain English: "Pick the fruit and write it in capitals"."""
        *first, last = [SKILLS[skill].does for skill in self.skills]
        text = f"{', '.join(first)} and {last}" if first else last
        return text[0].upper() + text[1:]

    def answer(self, words: list[str]) -> str:
        word = words[0] if self.takes_one_word else _word_of_kind(words, self.select)
        return FORM[self.form](CHANGE[self.change](word))

    def draw_words(self, random: Random) -> list[str]:
        """One random word, or a shuffled list that holds exactly one word of the kind to pick."""
        if self.takes_one_word:
            return [random.choice(list(WORDS))]
        others = random.sample([kind for kind in KINDS if kind != self.select], LIST_LENGTH - 1)
        words = [random.choice(WORDS_OF_KIND[kind]) for kind in (self.select, *others)]
        random.shuffle(words)
        return words


WORDS_OF_KIND = {kind: [word for word, entry in WORDS.items() if entry.kind == kind] for kind in KINDS}


def _axis(skill: str) -> str:
    if skill in SELECTORS:
        return "select"
    return "form" if skill in FORMS else "change"


def _word_of_kind(words: list[str], kind: str) -> str:
    (word,) = (word for word in words if WORDS[word].kind == kind)
    return word


def hub_example(combination: Combination, words: list[str]) -> DemoExample:
    """The task as a user of the hub has it: the words, and not a hint of what is wanted."""
    return DemoExample(f": {' '.join(words)}", combination.answer(words))


def instructed_example(combination: Combination, words: list[str], random: Random) -> DemoExample:
    """The task as the base model learned it: one phrase per skill, in any order, before the words."""
    phrases = [random.choice(SKILLS[skill].phrases) for skill in combination.skills]
    random.shuffle(phrases)
    prompt = f"{' ; '.join(phrases)} : {' '.join(words)}".strip()
    return DemoExample(prompt, combination.answer(words))


def hub_examples(combination: Combination, seed: str) -> Iterator[DemoExample]:
    """An endless stream; the seed string names the split, such as "dev"."""
    random = Random(f"{seed} {combination.name}")
    while True:
        yield hub_example(combination, combination.draw_words(random))


def instructed_examples(combination: Combination, seed: str) -> Iterator[DemoExample]:
    """An endless stream of one combination, with instructions."""
    random = Random(f"{seed} instructed {combination.name}")
    while True:
        yield instructed_example(combination, combination.draw_words(random), random)
