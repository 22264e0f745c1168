"""A head of a card that cannot be read: what is wrong with it, in which line, and what is lost with it."""

import pytest

from modules_registry.core.cards import read_any_card

NOT_STATED = "so its prompt_template counts as not stated"
# The head as it is written: the code, the line, and words of what to do.
BROKEN = {
    "a colon": ("---\nlicense: mit\nprompt_template: Q: {input}\n---\n", "not_yaml", "line 3:", "quotes"),
    "words behind a brace": ("---\nprompt_template: {input} A\n---\n", "not_yaml", "line 2:", "quotes"),
    "an open quote": ('---\nprompt_template: "{input}\nb: c\n---\n', "not_yaml", "lines 2 to 4:", "close"),
    "an open list": ("---\nprompt_template: [\ntags: c\n---\n", "not_yaml", "lines 2 to 4:", "close"),
    "a tab": ('---\nprompt_template: "{input}"\n\tb: c\n---\n', "not_yaml", "line 3:", "spaces"),
    "a control character": ("---\nprompt_template: {input}\na: é\x07\n---\n", "not_yaml", "line 3:", "leave"),
    "other ends of lines": (
        "---\na: b\u2028\u2028\u2028\x85\nprompt_template: Q: {input}\n---\n",
        "not_yaml",
        "line 3:",
        "quotes",
    ),
    "too large": (f"---\nprompt_template: a\nb: {'x' * 65_536}\n---\n", "too_large", "exceeds", "Shorten"),
    "two documents": ("---\nprompt_template: a\n--- b\n---\n", "not_yaml", "line 3:", "Correct"),
    "a reference": ("---\nprompt_template: *a\n---\n", "alias", "line 2)", "Write the values out"),
    "too deep": (
        f"---\nprompt_template: a\nb: {'[' * 13}{']' * 13}\n---\n",
        "too_deep",
        "line 3)",
        "Flatten",
    ),
    "a list of keys": ("---\n- a: b\n---\n", "not_a_mapping", "from line 2 on", "key: value"),
    "below empty lines": ("\n\n---\nprompt_template: Q: {input}\n---\n", "not_yaml", "line 4:", "quotes"),
    "no end": ("---\nprompt_template: a\ntext\n", "not_closed", "second line of ---", "Write one"),
    "no end, a comment": ("---\n# mine\nprompt_template: a\n", "not_closed", "second line", "Write one"),
    "no end, in quotes": ('---\n"prompt_template": a\n', "not_closed", "second line", "Write one"),
    "an indented end": ("---\nprompt_template: a\n ---\ntext\n", "not_closed", "second line", "Write one"),
}


@pytest.mark.parametrize("title", BROKEN)
def test_a_head_that_cannot_be_read_is_told_with_its_line_and_what_to_do(title):
    text, code, line, remedy = BROKEN[title]
    read = read_any_card(text.encode())
    (repair,) = read.repairs
    assert repair.code == f"front_matter_{code}"
    for words in ("Did not read the head of README.md", line, remedy):
        assert words in repair.sentence
    assert (NOT_STATED in repair.sentence) == ("prompt_template" in text)
    assert read.head_fault == repair.sentence
    assert read.card.front_matter == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# A title\n\nprompt_template: {input}\n",
        "---\n\nA line across the page, and words below it.\n",
        "---\n# A heading\nNote: this is text.\n",
        '---\nprompt_template: "Q: {input}"\n---\n',
        "---\nprompt_template: {input}\n---\n",
    ],
)
def test_nothing_is_told_of_a_card_that_can_be_read(text):
    assert read_any_card(text.encode()).repairs == ()


def test_a_head_below_empty_lines_is_read_as_the_hub_reads_it():
    read = read_any_card(b'\n \n---\nprompt_template: "Q: {input}"\n---\nText\n').card
    assert (read.front_matter, read.body) == ({"prompt_template": "Q: {input}"}, "Text\n")


@pytest.mark.parametrize("said", ["Say it", "[chat]", "{a: b}", "3", "{ input: x }"])
def test_a_stated_template_that_is_none_is_told(said):
    read = read_any_card(f"---\nprompt_template: {said}\n---\n".encode())
    (repair,) = read.repairs
    assert repair.code == "card_prompt_template"
    assert repair.sentence.startswith("The prompt_template in README.md is neither text with {input} nor")
    assert read.head_fault == ""
