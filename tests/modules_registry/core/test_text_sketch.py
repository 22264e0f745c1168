"""Texts that speak of the same thing are near each other."""

import numpy as np
import pytest

from modules_registry.core.text_sketch import TEXT_SKETCH_LENGTH, text_sketch, words_of


def likeness(first, second):
    return float(text_sketch({first: 1.0}) @ text_sketch({second: 1.0}))


def test_a_text_is_256_numbers_of_length_one_and_always_the_same():
    found = text_sketch({"Translates words into French.": 1.0})
    assert found.shape == (TEXT_SKETCH_LENGTH,)
    assert np.linalg.norm(found) == pytest.approx(1.0)
    np.testing.assert_array_equal(found, text_sketch({"Translates words into French.": 1.0}))


@pytest.mark.parametrize("near", ["Translation of a word to French", "translate wrods into frensh"])
def test_another_form_of_a_word_and_a_typo_are_nearer_than_another_task(near):
    text = "Translates words into French."
    assert likeness(text, near) > likeness(text, "Writes the animal in capitals.") + 0.2


def test_words_that_say_nothing_of_a_task_do_not_make_two_texts_alike():
    assert likeness("A LoRA module for the base model", "") == 0.0
    assert words_of("The model `fruit-spanish` was trained on a Café's data") == ["fruit", "spanish", "cafe"]
    assert words_of("FruitSpanish") == ["fruit", "spanish"]
