import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_site.accounts.names import is_reserved, is_well_formed, name_key


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "alice",
        "Alice-2",
        "flan_t5_large-adversarial_qa_dbert_answer_the_following_q",
        "race_high_",
        "x" * 96,
    ],
)
def test_names_that_the_hub_accepts_are_well_formed(name):
    assert is_well_formed(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "-a",
        "_a",
        "a-",
        "a.",
        "a--b",
        "a..b",
        "a.git",
        "a.GIT",
        "a/b",
        "a b",
        "é",
        "a\n",
        "x" * 97,
        "‮abc",
    ],
)
def test_other_names_are_not(name):
    assert not is_well_formed(name)


@pytest.mark.parametrize(
    ("one", "other"), [("Alice", "alice"), ("a.b", "a-b"), ("a_b", "a-b"), ("pay1", "payl"), ("c0de", "code")]
)
def test_names_a_reader_would_confuse_have_one_key(one, other):
    assert name_key(one) == name_key(other)


def test_different_names_have_different_keys():
    assert len({name_key(name) for name in ["alice", "bob", "charlie", "french", "german"]}) == 5


@pytest.mark.parametrize("name", ["api", "API", "modules", "ap1", "log-in".replace("-", ""), "compositions"])
def test_words_of_the_site_are_reserved_in_every_disguise(name):
    assert is_reserved(name)


@given(st.text(max_size=100))
def test_a_well_formed_name_never_leaves_its_place_in_an_address(name):
    if is_well_formed(name):
        assert name.isascii()
        assert "/" not in name
        assert ".." not in name
        assert name == name.strip()
