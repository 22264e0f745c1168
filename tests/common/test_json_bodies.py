"""One reader of JSON for every way in."""

import json
import time

import pytest

from hub_site.common.json_bodies import DEPTH_MAX, NOT_TEXT, PLACES_MAX, VALUES_MAX, JsonBodyError, read_json

MB = 1_000_000


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


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (3_900_000) + b"[]]",
        b"[" + b"{}," * VALUES_MAX + b"{}]",
        json.dumps(dict.fromkeys(map(str, range(900_000)), 1)).encode(),
        b'["",' + b'"\\\\",' * MB + b'""]',
        b'{"a": "' + b"," * 11 * MB + b'", "b": [' + b"0," * VALUES_MAX + b"0]}",
    ],
    ids=["lists", "objects", "keys", "texts", "beside a text of marks"],
)
def test_a_body_of_too_many_values_is_refused_before_one_is_made(body):
    began_s = time.process_time()
    with pytest.raises(JsonBodyError, match=r"more than 50,000 values"):
        read_json(body)
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize("text", [",[{" * 4 * MB, '",' * 2 * MB, "\\" * 3 * MB, "x" * 12 * MB])
def test_marks_within_a_text_are_no_values(text):
    body = json.dumps({"a": [text, 1]}).encode()
    began_s = time.process_time()
    assert read_json(body) == {"a": [text, 1]}
    assert time.process_time() - began_s < 1.5


def test_as_many_values_as_the_largest_request_has_are_read():
    assert len(read_json(b"[" + b"0," * (VALUES_MAX - 3) + b"0]")) == VALUES_MAX - 2
    assert len(read_json(json.dumps([","] * (VALUES_MAX - 1)).encode())) == VALUES_MAX - 1
    with pytest.raises(JsonBodyError, match="values"):
        read_json(b"[" + b"0," * (VALUES_MAX - 1) + b"0]")


def test_the_first_places_alone_are_told_and_their_names_are_short():
    texts = ["\0"] * (VALUES_MAX // 2)
    with pytest.raises(JsonBodyError, match=NOT_TEXT) as refused:
        read_json(json.dumps({"k": texts}).encode())
    assert refused.value.places == tuple(f"k.{index}" for index in range(PLACES_MAX))
    deep = b'{"%s":' % (b"n" * 500) * 60 + b'"\\u0000"' + b"}" * 60
    with pytest.raises(JsonBodyError, match=NOT_TEXT) as refused:
        read_json(deep)
    assert all(len(place) <= 200 for place in refused.value.places)


def test_the_depth_is_measured_behind_the_first_places_where_nothing_is_stored():
    texts = b'"\\u0000",' * (PLACES_MAX + 1)
    with pytest.raises(JsonBodyError, match="deep"):
        read_json(b"[" + texts + b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1) + b"]", is_stored=False)
