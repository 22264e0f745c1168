"""One reader of JSON for every way in."""

import pytest

from hub_site.common.json_bodies import DEPTH_MAX, NOT_TEXT, JsonBodyError, read_json


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b'{"a": "\\u0000"}', ("a",)),
        (b'{"a": [{"b": "x"}, {"b": "\\ud800"}]}', ("a.1.b",)),
        (b'{"a": {"\\u0000": 1}}', ("a",)),
        (b'{"\\udfff": {"b": "\\u0000"}}', ("body", "?.b")),
        (b'"\\u0000"', ("body",)),
    ],
)
def test_what_is_no_text_is_told_at_its_place(body, places):
    with pytest.raises(JsonBodyError, match=NOT_TEXT) as refused:
        read_json(body)
    assert refused.value.places == places


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
        b"{",
        b"",
        b"\xff",
        b"NaN",
        b"[-Infinity]",
        b"9" * 5000,
    ],
)
def test_what_is_not_json_is_refused_with_a_sentence(body):
    with pytest.raises(JsonBodyError, match="JSON"):
        read_json(body)


def test_a_pair_of_surrogates_is_one_character():
    assert read_json(b'["\\ud83d\\ude00", "\xc3\xa9"]') == ["\U0001f600", "\xe9"]
