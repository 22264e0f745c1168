from itertools import islice
from random import Random

import pytest

from demo.grammar import (
    SKILLS,
    Combination,
    DemoExample,
    hub_example,
    hub_examples,
    instructed_example,
)
from demo.words import KINDS, WORDS

LIST = ["hat", "fig", "owl", "saw"]


@pytest.mark.parametrize(
    ("name", "words", "answer"),
    [
        ("fruit", LIST, "fig"),
        ("animal-spanish", LIST, "búho"),
        ("cloth-french-upper", LIST, "CHAPEAU"),
        ("tool-plural-shout", LIST, "saws !"),
        ("kind", ["owl"], "animal"),
        ("letters", ["bridge"], "6"),
        ("initial-quotes", ["bridge"], '" b "'),
        ("last", ["bridge"], "e"),
        ("german-brackets", ["cow"], "[ Kuh ]"),
        ("answer", ["cow"], "answer : cow"),
        ("dots", ["cow"], "cow ..."),
        ("star", ["cow"], "* cow *"),
        ("the", ["cow"], "the cow"),
    ],
)
def test_the_answer_is_the_form_of_the_change_of_the_selected_word(name, words, answer):
    assert Combination.of(name).answer(words) == answer


def test_a_combination_is_named_by_its_skills_and_read_back_from_its_name():
    combination = Combination("animal", "french", "dots")
    assert combination.name == "animal-french-dots"
    assert Combination.of("animal-french-dots") == combination


@pytest.mark.parametrize("name", ["juggling", "upper-fruit", "french-spanish", ""])
def test_a_name_that_is_no_combination_is_refused(name):
    with pytest.raises(ValueError, match=r"skill|written"):
        Combination.of(name)


def test_a_task_says_in_plain_english_what_it_asks():
    assert Combination.of("fruit-upper").sentence == "Pick the fruit from the list and write it in capitals"


def test_a_hub_prompt_holds_the_words_and_no_hint():
    assert hub_example(Combination.of("fruit-upper"), LIST) == DemoExample(": hat fig owl saw", "FIG")


def test_an_instructed_prompt_names_every_skill_once():
    combination = Combination.of("animal-french-dots")
    prompt, answer = instructed_example(combination, LIST, Random(0))
    instructions, words = prompt.split(" : ")
    asked = instructions.split(" ; ")
    assert len(asked) == 3
    for skill in combination.skills:
        assert sum(phrase in SKILLS[skill].phrases for phrase in asked) == 1
    assert words.split() == LIST
    assert answer == "hibou ..."


def test_a_drawn_list_has_four_kinds_and_one_word_to_pick():
    random = Random(0)
    for _ in range(100):
        words = Combination.of("tool").draw_words(random)
        kinds = [WORDS[word].kind for word in words]
        assert len(set(kinds)) == 4
        assert kinds.count("tool") == 1


def test_the_word_to_pick_may_stand_anywhere():
    examples = islice(hub_examples(Combination.of("fruit"), "dev"), 200)
    places = {example.input.split()[1:].index(example.output) for example in examples}
    assert places == {0, 1, 2, 3}


def test_a_seed_string_names_a_stream():
    def first(seed):
        return list(islice(hub_examples(Combination.of("fruit"), seed), 20))

    assert first("dev") == first("dev")
    assert first("dev") != first("train")


def test_no_phrase_asks_for_two_skills():
    phrases = [phrase for skill in SKILLS.values() for phrase in skill.phrases]
    assert len(phrases) == len(set(phrases))
    assert set(KINDS) <= set(SKILLS)
