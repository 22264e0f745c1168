"""Whether the first example is the names of the columns: a row that was copied along with a table.

It is only ever offered to be left out: no rule knows. Names of a known dialect are read as such before
(`example_rows`).
"""

import re
from collections.abc import Sequence

from composer.core.spec.example_dialects import COLUMN_NAME, KNOWN, quoted
from composer.core.spec.examples import Example

LONG_WORDS = 3  # a text of so many words is no name
NAME_WORDS_MAX = 4
OTHERS_MIN = 2  # so many rows must differ from the first one, where its words are unknown
TIMES_LONGER = 2  # an input beside a name above it
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*\s*%?")
WORDS = re.compile(r"[^\W\d_]+")
CAMEL_CASE = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")

# Words in the names of columns, by what such a column holds: in English, German, French and Spanish.
INPUT_WORDS = {
    *(word for dialect in KNOWN for word in dialect.inputs),
    *[
        "article",
        "body",
        "comment",
        "content",
        "description",
        "dialog",
        "dialogue",
        "document",
        "email",
        "feedback",
        "headline",
        "hypothesis",
        "mail",
        "message",
        "name",
        "passage",
        "post",
        "premise",
        "problem",
        "query",
        "question",
        "request",
        "review",
        "sentence",
        "sms",
        "subject",
        "term",
        "text",
        "title",
        "topic",
        "transcript",
        "tweet",
        "user",
        "utterance",
        "word",
        "anfrage",
        "anweisung",
        "aufgabe",
        "beschreibung",
        "bewertung",
        "eingabe",
        "frage",
        "kommentar",
        "nachricht",
        "satz",
        "titel",
        "wort",
        "commentaire",
        "consigne",
        "demande",
        "entrée",
        "entree",
        "mot",
        "phrase",
        "texte",
        "titre",
        "comentario",
        "consulta",
        "entrada",
        "frase",
        "instrucción",
        "instruccion",
        "mensaje",
        "oración",
        "oracion",
        "palabra",
        "pregunta",
        "reseña",
        "texto",
        "título",
        "titulo",
    ],
}
OUTPUT_WORDS = {
    *(dialect.output for dialect in KNOWN),
    *[
        "age",
        "bot",
        "category",
        "class",
        "classification",
        "correction",
        "emotion",
        "expected",
        "gold",
        "grade",
        "intent",
        "labels",
        "language",
        "polarity",
        "price",
        "priority",
        "rating",
        "reaction",
        "reply",
        "result",
        "score",
        "sentiment",
        "solution",
        "spam",
        "stars",
        "status",
        "summary",
        "tag",
        "target",
        "topic",
        "title",
        "toxicity",
        "translation",
        "type",
        "value",
        "antwort",
        "ausgabe",
        "ergebnis",
        "gefühl",
        "kategorie",
        "klasse",
        "lösung",
        "sprache",
        "stimmung",
        "übersetzung",
        "ziel",
        "zusammenfassung",
        "catégorie",
        "categorie",
        "classe",
        "étiquette",
        "etiquette",
        "réponse",
        "reponse",
        "résultat",
        "resultat",
        "résumé",
        "sortie",
        "traduction",
        "categoría",
        "categoria",
        "clase",
        "etiqueta",
        "respuesta",
        "resultado",
        "resumen",
        "salida",
        "sentimiento",
        "traducción",
        "traduccion",
    ],
}
LANGUAGE_NAMES = {
    *[
        "arabic",
        "chinese",
        "dutch",
        "english",
        "french",
        "german",
        "hindi",
        "italian",
        "japanese",
        "korean",
        "polish",
        "portuguese",
        "russian",
        "spanish",
        "turkish",
        "arabisch",
        "chinesisch",
        "deutsch",
        "englisch",
        "französisch",
        "italienisch",
        "polnisch",
        "russisch",
        "spanisch",
        "allemand",
        "anglais",
        "arabe",
        "chinois",
        "espagnol",
        "français",
        "francais",
        "italien",
        "russe",
        "alemán",
        "aleman",
        "español",
        "espanol",
        "francés",
        "frances",
        "inglés",
        "ingles",
        "italiano",
    ],
}
LANGUAGE_CODES = {
    *[
        "ar",
        "bg",
        "bn",
        "ca",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "es",
        "et",
        "fa",
        "fi",
        "fr",
        "he",
        "hi",
        "hr",
        "hu",
        "id",
        "it",
        "ja",
        "ko",
        "lt",
        "lv",
        "ms",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sr",
        "sv",
        "th",
        "tr",
        "uk",
        "ur",
        "vi",
        "zh",
    ],
    *["ara", "deu", "eng", "fra", "ger", "ita", "jpn", "por", "rus", "spa", "zho"],
}
WHOLE_INPUTS, WHOLE_OUTPUTS = {"q", "x", "src"}, {"a", "y", "tgt"}  # names that are no words inside others


def names_as_example(examples: Sequence[Example]) -> tuple[str, str] | None:
    """Return input and output of the first example if they look like the names of columns."""
    if len(examples) < 2:
        return None
    first, *others = [(example.input.strip(), example.output.strip()) for example in examples]
    if not all(map(is_short_name, first)) or any(output == first[1] for _, output in others):
        return None
    looks_so = name_columns(first) or has_word_above_texts(first, others) or differs_from(first, others)
    return first if looks_so and not any(map(name_columns, others)) else None


def is_short_name(cell: str) -> bool:
    """Return whether a cell may be the name of a column."""
    return COLUMN_NAME.fullmatch(cell) is not None and len(words_of(cell)) <= NAME_WORDS_MAX


def words_of(cell: str) -> list[str]:
    """Return the words of a name in lower case, also where only "_", "-" or capitals separate them."""
    return WORDS.findall(CAMEL_CASE.sub(" ", cell).lower())


def name_columns(cells: tuple[str, str]) -> bool:
    """Return whether one cell names an input and the other an output, or both name languages."""
    one, other = map(roles_of, cells)
    return (
        ("input" in one and "output" in other)
        or ("output" in one and "input" in other)
        or ("code" in one and "code" in other)
    )


def roles_of(cell: str) -> set[str]:
    """Return what a column of this name may hold: "input", "output"; "code" if it is that of a language.

    The name of a language stands for both.
    """
    if not is_short_name(cell):
        return set()
    words, whole = {*words_of(cell)}, cell.lower()
    is_language = bool(words & LANGUAGE_NAMES)
    roles = {
        "input": bool(words & INPUT_WORDS) or whole in WHOLE_INPUTS or is_language,
        "output": bool(words & OUTPUT_WORDS) or whole in WHOLE_OUTPUTS or is_language,
        "code": re.split("[-_]", whole)[0] in LANGUAGE_CODES,
    }
    return {role for role, has_role in roles.items() if has_role}


def has_word_above_texts(first: tuple[str, str], others: Sequence[tuple[str, str]]) -> bool:
    """Return whether a known word is in the first row, and the inputs below are no single words."""
    are_known = any(roles_of(cell) & {"input", "output"} for cell in first)
    return are_known and " " not in first[0] and all(" " in text for text, _ in others)


def differs_from(first: tuple[str, str], others: Sequence[tuple[str, str]]) -> bool:
    """Return whether the first row, of any short words, differs from all others as names do.

    Either numbers stand below one of its words; or texts of several times its length stand below the first
    word, and below the second one texts too, or labels that come again.
    """
    if len(others) < OTHERS_MIN or any(
        len(words_of(cell)) > 2 or any(map(str.isdigit, cell)) for cell in first
    ):
        return False
    inputs, outputs = zip(*others, strict=True)
    if any(all(map(NUMBER.fullmatch, cells)) for cells in (inputs, outputs)):
        return True
    alike = first[0][0].isupper() == first[1][0].isupper()
    are_labels = len({*outputs}) < len(outputs)
    return alike and are_long(inputs, first[0]) and (are_labels or are_long(outputs, first[1]))


def are_long(texts: Sequence[str], name: str) -> bool:
    """Return whether these are all texts of several words, and several times as long as the name."""
    return all(len(text.split()) >= LONG_WORDS and len(text) >= TIMES_LONGER * len(name) for text in texts)


def header_notes(header: tuple[str, str] | None) -> list[str]:
    """Return what is to be said of a first row of a table that may name the columns."""
    if header is None:
        return []
    return [
        f"The first row, {quoted(header)}, looks like the names of the columns. It is read as an example: "
        "choose these columns by name to leave it out."
    ]


def notes_of_first(examples: Sequence[Example]) -> list[str]:
    """Return what is to be said of a first example that may be names, where the columns have their names."""
    names = names_as_example(examples)
    if names is None:
        return []
    return [
        f"The first example, {quoted(names)}, looks like the names of columns. It is used as an example: "
        "take it out if it is none."
    ]
