"""Phrases that docs/words.md replaced stay replaced in all that is shown, and its spelling is American."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

# The first column of the table of words, and phrases that were replaced with them.
REPLACED = [
    r"\bHow far\b(?! the verdict)",
    r"\b[Nn]arrow(ed)? (it |them )?(down|by)\b",
    r">\s*Answer\s*</button>",
    r"\b[Tt]he race\b",
    r"\b[Rr]ivals?\b",
    r"others that are no composition",
    r"\bmodules? brought\b",
    r"\bTake it along\b",
    r"\bMake it again\b",
    r"\bAgain, with changes\b",
    r"\bWhat the search lowers\b",
    r"\bLongest answer\b",
    r"\bNew tokens at most\b",
    r"\bnats for a whole answer\b",
    r"\bBefore yours\b",
    r"\bLeft out: today",
    r"\bEmpty: ",
    r"\bis changed\.",
    r">\s*Yours\s*<",
    r">\s*The words\s*<",
    r"\b[Ss]tart page\b",
    r"\bWhat is no plain LoRA\b",
    r"\bYou come to it once\b",
    r"\bno letter will\b",
    r"\bDo it\s*</button>",
    r"\bLook in your mail\b",
    r">\s*Make a token\s*<",
    r">\s*Make it\s*<",
    r"\bMake a private link\b",
    r'\brace\.csv\b',
    r"\bMake it small\b",
    r"\bless is better\b",
    r"\bon our side\b",
    r"\bwith our\b",
    r"\bquick ones alone\b",
    r"\bpromise most\b",
    r"\blearn by heart\b",
    r"\bsigns (are )?elected\b",
    r"\bSomething broke\b",
    r"\bWeight lies on\b",
    r"\bSearch engines are told\b",
    r"\bWhoever has\b",
    r"\bBegin anew\b",
]  # fmt: skip
BRITISH = re.compile(
    r"\b(licences?|organis(e|ed|es|ing|ations?)|learnt|colour(s|ed|ing)?|optimisers?)\b(?!=)", re.IGNORECASE
)
FOLDERS = ("templates", "hub_site", "modules_registry", "composer", "static/js")
SHOWN_ATTRIBUTES = re.compile(r'\b(?:alt|aria-label|content|data-label|placeholder|title)="([^"]*)"')


def sentences_of_python(text: str) -> str:
    """The strings with a space in them, but for docstrings: what a module may say."""
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    )
    return "\n".join(text for text in strings if " " in text or text.endswith(".csv"))


def source_of_template(text: str) -> str:
    """A template without its comments, on one line: a phrase may be broken over two."""
    return " ".join(re.sub(r"\{#.*?#\}", " ", text).split())


def shown_by_template(text: str) -> str:
    """What a reader may see: text, attributes with text, and texts given to other templates."""
    source = source_of_template(text)
    given = re.findall(r'\b(?:text|title|label|note|action|against)="([^"]*)"', source)
    without_tags = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", source)
    attributes = SHOWN_ATTRIBUTES.findall(without_tags)
    return "\n".join([re.sub(r"<[^>]*>", " ", without_tags), *attributes, *given])


@cache
def texts() -> list[tuple[str, str]]:
    found = []
    for folder in FOLDERS:
        for path in sorted((settings.BASE_DIR / folder).rglob("*")):
            if path.suffix not in (".html", ".txt", ".py", ".js") or "migrations" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            read = sentences_of_python if path.suffix == ".py" else source_of_template
            found.append((str(path.relative_to(settings.BASE_DIR)), read(text)))
    return found


@pytest.mark.parametrize("phrase", REPLACED)
def test_no_page_and_no_message_has_a_phrase_that_was_replaced(phrase):
    assert [path for path, text in texts() if re.search(phrase, text)] == []


def test_the_reader_of_python_sees_messages_and_no_docstrings():
    told = sentences_of_python('"""In the race."""\nX = "The race is " f"{X} on"\nY = "race"\n')
    assert re.search(REPLACED[3], told)
    assert "In the race" not in told


@pytest.mark.parametrize("text", ["A licence", "Colours", "has learnt", "an organisation", "Licence: mit"])
def test_british_spellings_are_found_in_what_is_shown_alone(text):
    assert BRITISH.search(shown_by_template(f"<p>{text}</p>"))
    assert BRITISH.search(shown_by_template(f'<input placeholder="{text}">'))
    assert not BRITISH.search(shown_by_template(f'<p class="{text}">{{{{ module.licence }}}}</p>'))


def test_shown_text_is_in_american_english():
    templates = Path(settings.BASE_DIR / "templates")
    shown = [
        (str(path.relative_to(templates)), shown_by_template(path.read_text(encoding="utf-8")))
        for path in sorted(templates.rglob("*"))
        if path.suffix in (".html", ".txt")
    ]
    assert [(path, found[0]) for path, text in shown if (found := BRITISH.search(text))] == []
