import pytest

from demo.tokenizer import make_tokenizer
from demo.words import WORDS


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.mark.parametrize(
    "text", ["cat !", '" œil "', "* GRENOUILLE *", "cat ...", "Straße", "[ 日本 ]", "x\ty", "a  b"]
)
def test_any_text_comes_back_as_it_was(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_taught_word_is_one_token(tokenizer):
    for word in WORDS.values():
        for form in (word.english, word.plural, word.french, word.spanish, word.french.upper()):
            assert len(tokenizer(form).input_ids) == 2, form  # and the end of the text


def test_an_untaught_word_is_spelled(tokenizer):
    assert len(tokenizer("Schmetterling").input_ids) > 10


def test_space_around_a_prompt_does_not_matter(tokenizer):
    assert tokenizer("  : cat \n").input_ids == tokenizer(": cat").input_ids
