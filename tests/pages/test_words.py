"""Phrases that docs/words.md replaced stay replaced, in every template and message."""

import re

import pytest
from django.conf import settings

REPLACED = [
    r"You come to it once",
    r"\bStart page\b",
    r"start page",
    r">Yours<",
    r"\bis changed\.",
    r"\bEmpty: it lasts",
    r"\bno letter will\b",
    r"\bDo it</button>",
    r"What is no plain LoRA",
    r"Look in your mail",
    r">Make a token<",
]
FOLDERS = ("templates", "hub_site", "modules_registry", "composer")


def texts():
    for folder in FOLDERS:
        for path in sorted((settings.BASE_DIR / folder).rglob("*")):
            if path.suffix in (".html", ".txt", ".py") and "migrations" not in path.parts:
                yield path.relative_to(settings.BASE_DIR), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("phrase", REPLACED)
def test_no_page_and_no_message_has_a_phrase_that_was_replaced(phrase):
    assert [str(path) for path, text in texts() if re.search(phrase, text)] == []
