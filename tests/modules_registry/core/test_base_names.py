"""Which base an adapter is for: one reader of what was asked, of the config and of the card."""

import io
import json

import pytest

from modules_registry.core.advice import ADVICE, WayIn
from modules_registry.core.base_names import card_base_repairs, read_config_with_base
from modules_registry.core.cards import base_models_of, check_card
from modules_registry.core.errors import ConfigRefusal, GateRefusal
from tests.attacks.adapters import config

LARGE, SMALL, QUANTIZED = "google/flan-t5-large", "google/flan-t5-small", "unsloth/flan-t5-large-bnb-4bit"


def library_name(name):
    """A library with one base, which has another name."""
    return LARGE if name.lower() in (LARGE, QUANTIZED) else None


def nothing_there(name):
    return None


def read(name, library=nothing_there, **said):
    raw = json.loads(config(revision="abc"))
    raw |= {"base_model_name_or_path": name}
    if name == "absent":
        del raw["base_model_name_or_path"]
    said = {"way_in": WayIn.CLIENT} | said
    return read_config_with_base(io.BytesIO(json.dumps(raw).encode()), library, **said)


@pytest.mark.parametrize(
    "given", ["absent", "", None, "/home/me/flan", "../flan", "C:\\models\\flan", ["a/b"]]
)
def test_the_card_s_base_stands_in_for_one_that_names_nothing(given):
    found = read(given, card_bases=[LARGE, SMALL])
    assert (found.base, found.revision) == (LARGE, None)  # the revision was that of the other
    assert [repair.code for repair in found.repairs] == ["base"]
    assert f"Set the base model to {LARGE}, as README.md says; it was" in found.repairs[0].sentence


@pytest.mark.parametrize("card_bases", [[], [SMALL]])
def test_a_config_that_names_a_base_is_believed(card_bases):
    found = read(LARGE, card_bases=card_bases)
    assert (found.base, found.revision, found.repairs) == (LARGE, "abc", ())


def test_the_base_that_was_asked_for_wins_and_is_said():
    found = read(LARGE, asked=SMALL, card_bases=["a/b"])
    assert (found.base, found.revision) == (SMALL, None)
    assert found.repairs[0].sentence == f'Set the base model to {SMALL}, as asked; it was "{LARGE}".'
    assert read(LARGE, asked=LARGE).repairs == ()


@pytest.mark.parametrize("given", ["", "/home/me/flan"])
def test_where_nothing_names_a_base_the_config_is_refused(given):
    with pytest.raises(ConfigRefusal) as refusal:
        read(given)
    assert refusal.value.code in ("base_missing", "base_not_a_name")


@pytest.mark.parametrize("way_in", ADVICE["no_base_name"])
def test_what_to_do_without_a_name_is_said_by_the_way_in_beside_all_else(way_in):
    raw = json.loads(config(r=0)) | {"base_model_name_or_path": "/home/me/flan"}
    with pytest.raises(GateRefusal) as refusal:
        read_config_with_base(io.BytesIO(json.dumps(raw).encode()), nothing_there, way_in=WayIn(way_in))
    assert refusal.value.codes == ("base_not_a_name", "rank_out_of_range")
    said = [other for other in ADVICE["no_base_name"] if ADVICE["no_base_name"][other] in str(refusal.value)]
    assert way_in in said
    assert {ADVICE["no_base_name"][other] for other in said} == {ADVICE["no_base_name"][way_in]}


@pytest.mark.parametrize(
    ("given", "said", "revision"),
    [
        ("Google/FLAN-T5-Large", {}, "abc"),
        (QUANTIZED, {}, None),
        ("Unsloth/flan-t5-large-BNB-4bit", {}, None),
        (SMALL, {"asked": QUANTIZED}, None),
        ("/data/flan", {"card_bases": ["GOOGLE/flan-t5-large"]}, None),
    ],
)
def test_another_name_of_a_base_is_written_as_the_library_has_it(given, said, revision):
    found = read(given, library_name, **said)
    assert (found.base, found.revision) == (LARGE, revision)
    assert f"Set the base model to {LARGE}, as this library calls it; it was" in found.repairs[-1].sentence


@pytest.mark.parametrize(
    ("front_matter", "library", "is_said"),
    [
        ("base_model: google/flan-t5-small", nothing_there, True),
        ("base_model:\n- google/flan-t5-small\n- google/other", nothing_there, True),
        (f"base_model: {QUANTIZED}", nothing_there, True),
        (f"base_model: {QUANTIZED}", library_name, False),
        ("base_model: Google/Flan-T5-Large", nothing_there, False),
        ("base_model:\n- google/flan-t5-small\n- google/flan-t5-large", nothing_there, False),
        ("base_model: /home/me/flan", nothing_there, False),
        ("license: mit", nothing_there, False),
    ],
)
def test_a_card_that_names_another_base_is_said(front_matter, library, is_said):
    named = base_models_of(check_card(f"---\n{front_matter}\n---\n".encode()))
    repairs = card_base_repairs(named, LARGE, library)
    assert [repair.code for repair in repairs] == ["card_base"] * is_said
    for repair in repairs:
        assert named[0] in repair.sentence
        assert LARGE in repair.sentence
