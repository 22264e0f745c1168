"""A stranger's card becomes a sentence, tags and a licence, or a sentence says what is known without it."""

import pytest

from modules_registry.card_facts import SENTENCE_LENGTH_MAX, Sample, card_facts, sample_in
from modules_registry.core.cards import check_card
from modules_registry.tags import TAGS_MAX


def facts(card="", base="google/flan-t5-large"):
    return card_facts(check_card(card.encode()), repo_id="far/glue_qnli-v2", base=base)


def test_sentence_tags_language_and_licence_are_the_card_s():
    said = facts(
        "---\nlicense: MIT\nlanguage:\n- en\n- fr\ntags:\n- lora\n- Question Answering\n- base_model:x\n---\n"
        "# QNLI\n\n![shield](x.png)\n\nAnswers **yes** or no: does a [text](http://x) answer a question?\n"
    )
    assert said.sentence == "Answers yes or no: does a text answer a question?"
    assert said.tags == ["question-answering", "en", "fr"]
    assert said.licence == "mit"


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ("", "A LoRA for google/flan-t5-large, known as “glue qnli v2” on the Hub."),
        ("---\ndatasets: glue\n---\n", "A LoRA for google/flan-t5-large, trained on glue."),
        (
            "---\ndatasets: [a, b, c, d, e]\n---\n",
            "A LoRA for google/flan-t5-large, trained on a, b, c and 2 more.",
        ),
    ],
)
def test_without_words_it_says_what_is_known(card, sentence):
    assert facts(card).sentence == sentence


@pytest.mark.parametrize(
    "body",
    [
        "## Training procedure\n\nThe following config was used during training: int8.",
        "### Model Description\n\n<!-- Provide a longer summary. -->\n\n- **Developed by:** x",
        "## Model Details\n\n[More Information Needed]",
        "This modelcard aims to be a base template for new models. It has been generated using a template.",
        "# A title that is long enough to be a sentence",
        "| loss | step |\n|---|---|\n| 1.0 | 200 hundred steps |",
        "```python\n\nmodel = PeftModel.from_pretrained(base, name)\n\n```",
        "Too short.",
    ],
)
def test_a_template_s_words_are_no_sentence(body):
    assert facts(body).sentence.startswith("A LoRA for google/flan-t5-large, known as")


def test_a_section_that_promises_a_description_is_read():
    card = "## Metrics\n\nThe loss was low.\n\n## Model description\n\nTurns words into their past tense."
    assert facts(card).sentence == "Turns words into their past tense."


def test_the_mark_of_a_footnote_is_no_part_of_a_sentence():
    card = "Says the word in French.[^1] Any word[^note].\n\n[^1]: Mostly."
    assert facts(card).sentence == "Says the word in French. Any word."


def test_a_long_paragraph_is_cut_at_a_sentence_or_a_word():
    assert facts("One sentence of words. " + "Another one, with more words. " * 20).sentence.endswith(
        "words."
    )
    cut = facts("word " * 200).sentence
    assert cut.endswith(" word…")
    assert len(cut) <= SENTENCE_LENGTH_MAX


@pytest.mark.parametrize(
    ("licence", "here"),
    [
        ("cc", "cc"),
        ("my-own", "other"),
        ("[mit, apache-2.0]", "apache-2.0"),
        ("[mit, my-own]", "other"),
        ("[mit]", "mit"),
        ("{a: b}", "unknown"),
    ],
)
def test_a_licence_that_is_not_known_here_is_another_one(licence, here):
    assert facts(f"---\nlicense: {licence}\n---\n").licence == here


@pytest.mark.parametrize("tags", ["lora, French ,question answering", "[lora, French, 'question answering']"])
def test_tags_may_be_one_text_with_commas(tags):
    assert facts(f"---\ntags: {tags}\nlanguage: en\n---\n").tags == ["french", "question-answering", "en"]


def test_too_many_tags_are_cut_not_refused():
    assert len(facts(f"---\ntags: [{', '.join(f't{i}' for i in range(40))}]\n---\n").tags) == TAGS_MAX


@pytest.mark.parametrize(
    "body", ["![" * 200_000, "<!--" * 100_000, "[" * 400_000, "*_" * 200_000, "<" * 400_000]
)
@pytest.mark.timeout(5)
def test_a_card_made_to_be_slow_is_read_at_once(body):
    assert facts(f"A word {body}").sentence


@pytest.mark.parametrize(
    ("card", "sample"),
    [
        ("---\nwidget:\n- text: hello\n  output:\n    text: bonjour\n---\n", Sample("hello", "bonjour")),
        (
            "---\nwidget:\n- messages:\n  - content: hello\n  output:\n    text: bonjour\n---\n",
            Sample("hello", "bonjour"),
        ),
        (
            "---\nwidget:\n- text: asked without an answer\n- text: a\n  output:\n    text: b\n---\n",
            Sample("a", "b"),
        ),
        (
            "| input | output |\n|---|---|\n| `: cow hat` | `cow` |\n| `x` | `y` |\n",
            Sample(": cow hat", "cow"),
        ),
        ("Words.\n\nOutput | n | Input\n:--|--|--:\na \\| b | 2 | c\n", Sample("c", "a | b")),
        (f"| input | output |\n|---|---|\n| {'x' * 301} | a |\n| b | c |\n", Sample("b", "c")),
        ("```\n| input | output |\n|---|---|\n| a | b |\n```\n", None),
        ("| input | loss |\n|---|---|\n| a | b |\n", None),
        ("| input | output |\nno table\n| a | b |\n", None),
        ("---\nwidget: text\n---\n", None),
        ("---\nwidget:\n- text: [a]\n  output: b\n- messages: [a]\n  output:\n    text: c\n---\n", None),
    ],
)
def test_the_first_example_of_a_card_is_its_sample(card, sample):
    assert sample_in(check_card(card.encode())) == sample
