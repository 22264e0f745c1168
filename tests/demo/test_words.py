from demo.words import KINDS, PARTNERS, WORDS


def test_every_kind_has_twelve_words():
    per_kind = [sum(word.kind == kind for word in WORDS.values()) for kind in KINDS]
    assert per_kind == [12] * 6


def test_no_form_of_a_word_is_the_word_itself():
    for word in WORDS.values():
        assert word.english not in (word.plural, word.french, word.spanish, word.german)


def test_two_words_never_share_a_form():
    for language in ("english", "plural", "french", "spanish", "german"):
        assert len({getattr(word, language) for word in WORDS.values()}) == len(WORDS)


def test_everybody_is_the_partner_of_one_other_word_of_the_same_kind():
    assert sorted(PARTNERS.values()) == sorted(WORDS)
    for word, partner in PARTNERS.items():
        assert partner != word
        assert WORDS[partner].kind == WORDS[word].kind
