"""Cards from strangers."""

import time

import pytest

from modules_registry.core.cards import CARD_BYTES_MAX, check_card
from modules_registry.core.errors import CardRefusal

BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]"


def card(front_matter: str, body: str = "Hello.") -> bytes:
    return f"---\n{front_matter}\n---\n{body}".encode()


def test_front_matter_and_body_are_told_apart():
    accepted = check_card(card("license: mit\ntags:\n- lora\n- peft", "# Title\n\n---\n\nText."))
    assert accepted.front_matter == {"license": "mit", "tags": ["lora", "peft"]}
    assert accepted.body == "# Title\n\n---\n\nText."
    assert accepted.text.startswith("---\nlicense: mit")


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("", ""),
        ("# Only Markdown", "# Only Markdown"),
        ("---\nnever closed", "---\nnever closed"),
        ("---\n---\nbody", "body"),
        ("---\n# only a comment\n---\nbody", "body"),
        ("text\n---\na: b\n---\n", "text\n---\na: b\n---\n"),
    ],
)
def test_a_card_without_front_matter_is_a_card(text, body):
    accepted = check_card(text.encode())
    assert (accepted.front_matter, accepted.body) == ({}, body)


def test_a_card_from_windows_reads_the_same():
    assert check_card(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\nHello.\r\n") == check_card(
        b"---\nlicense: mit\n---\nHello.\n"
    )


def test_values_stay_the_text_they_were_written_as():
    accepted = check_card(card("language: no\nversion: 1.10\ndate: 2024-99-99\nsize: 1:30\nempty:"))
    assert accepted.front_matter == {
        "language": "no",
        "version": "1.10",
        "date": "2024-99-99",
        "size": "1:30",
        "empty": "",
    }


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!binary eA=="]
)
def test_a_tag_calls_nothing(tag):
    value = check_card(card(f"a: {tag}")).front_matter["a"]
    assert value in (["true"], "", "eA==")


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("card_too_large", b"x" * (CARD_BYTES_MAX + 1)),
        ("card_not_utf8", b"caf\xe9"),
        ("card_not_utf8", "text".encode("utf-16")),
        ("card_unstorable_text", b"a\x00b"),
        ("card_unstorable_text", card(r'a: "\0"')),
        ("card_unstorable_text", card(r'a: [{"\0": b}]')),
        ("front_matter_too_large", card("a: " + "x" * 70_000)),
        ("front_matter_too_deep", card("a: " + "[" * 60_000)),
        ("front_matter_too_deep", card("a: " + "{a: " * 13 + "1" + "}" * 13)),
        ("front_matter_alias", card(BOMB)),
        ("front_matter_alias", card("a: &a [*a]")),
        ("front_matter_alias", card("a: &unused b")),
        ("front_matter_not_yaml", card("a: [1, 2")),
        ("front_matter_not_yaml", card("a: b: c")),
        ("front_matter_not_yaml", card("a: b\n--- c\n")),
        ("front_matter_not_yaml", card("? [a, b]\n: c")),
        ("front_matter_not_yaml", card("a: \x07")),
        ("front_matter_alias", card("a: *nothing")),
        ("front_matter_not_a_mapping", card("- a\n- b")),
        ("front_matter_not_a_mapping", card("just text")),
    ],
)
def test_a_hostile_card_is_refused_with_its_code(code, data):
    begin = time.process_time()
    with pytest.raises(CardRefusal) as refusal:
        check_card(data)
    assert refusal.value.code == code
    assert refusal.value.message.isascii()
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("body", ["[" * 500_000, "---\n" * 100_000, "---" + " " * 400_000, "> " * 200_000])
def test_a_tiresome_body_is_read_quickly(body):
    begin = time.process_time()
    check_card(body.encode())
    assert time.process_time() - begin < 1
