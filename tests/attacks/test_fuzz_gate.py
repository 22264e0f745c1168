"""Whatever the bytes: the gate accepts or refuses, quickly, and never breaks in another way."""

import io
import json
import os
import struct
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modules_registry.core.cards import check_card
from modules_registry.core.errors import CardRefusal, GateRefusal
from modules_registry.core.gate import check_adapter
from tests.attacks.adapters import (
    BASE_SHAPES,
    PLAIN_CONFIG,
    assembled,
    config,
    data_of,
    described,
    plain_tensors,
    weights,
)

TENSORS = plain_tensors()
HEADER = described(TENSORS)
DATA = data_of(TENSORS)
PLAIN = weights()

EXAMPLES = 3000 if os.environ.get("HUB_TEST_LONG") else 100
fuzzed = settings(max_examples=EXAMPLES, deadline=timedelta(seconds=5))
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 2**31, 2**63, 2**64, -1])
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
dtypes = st.sampled_from(["F32", "F16", "BF16", "F64", "I64"]) | json_values
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": dtypes,
        "shape": st.lists(numbers, max_size=4) | json_values,
        "data_offsets": st.lists(numbers, max_size=3) | json_values,
    },
)


def answer(config_bytes: bytes, weights_bytes: bytes) -> str:
    try:
        check_adapter(io.BytesIO(config_bytes), io.BytesIO(weights_bytes), BASE_SHAPES)
    except GateRefusal as refusal:
        return refusal.code
    return ""


@fuzzed
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_refused(config_bytes, weights_bytes):
    assert answer(config_bytes, weights())
    assert answer(config(), weights_bytes)


@fuzzed
@given(st.sampled_from([*PLAIN_CONFIG, "use_dora", "rank_pattern", "auto_mapping", "x"]), json_values)
def test_any_value_in_the_config_is_answered(key, value):
    answer(json.dumps(PLAIN_CONFIG | {key: value}).encode(), PLAIN)


@fuzzed
@given(st.dictionaries(st.text(max_size=12), json_values, max_size=6))
def test_any_config_is_refused(value):
    assert answer(json.dumps(value).encode(), PLAIN)


@fuzzed
@given(st.sampled_from(sorted(HEADER)), entries)
def test_any_change_to_an_entry_of_the_header_is_refused_unless_it_changes_nothing(name, changes):
    header = HEADER | {name: HEADER[name] | changes}
    if json.dumps(header) != json.dumps(HEADER):
        assert answer(config(), assembled(header, DATA))


@fuzzed
@given(st.dictionaries(st.text(max_size=12), json_values | entries, max_size=6), st.binary(max_size=64))
def test_any_header_is_refused(header, data):
    assert answer(config(), assembled(header, data))


@fuzzed
@given(st.integers(0, 2**64 - 1))
def test_any_other_header_length_is_refused(length):
    plain = int.from_bytes(PLAIN[:8], "little")
    assert bool(answer(config(), struct.pack("<Q", length) + PLAIN[8:])) == (length != plain)


@fuzzed
@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
def test_any_changed_byte_is_answered(position, mask):
    spoiled = bytearray(PLAIN)
    spoiled[position] ^= mask
    answer(config(), bytes(spoiled))


@fuzzed
@given(st.integers(0, len(PLAIN) - 1))
def test_any_shortened_file_is_refused(length):
    assert answer(config(), PLAIN[:length])


@fuzzed
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.booleans())
def test_any_card_is_answered(data, in_front_matter):
    card = b"---\n" + data + b"\n---\nbody" if in_front_matter else data
    with suppress(CardRefusal):
        check_card(card)
