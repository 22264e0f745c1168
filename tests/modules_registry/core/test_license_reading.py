"""A licence in a card becomes the Hub's identifier, however its author wrote it, and the reader says so."""

import pytest

from modules_registry.core.cards import base_models_of, license_of, read_any_card
from modules_registry.core.licenses.names import LICENSES
from modules_registry.core.licenses.reading import READ, identifier_of, license_difference, read_license

SPELLINGS = {
    "apache-2.0": [
        *("Apache 2.0", "apache2", "Apache-2", "Apache License 2.0", "Apache License, Version 2.0"),
        *("Apache License 2.0 (Apache-2.0)", "https://www.apache.org/licenses/LICENSE-2.0", "APACHE_2.0"),
    ],
    "mit": ["MIT License", "The MIT License (MIT)", "mit-license", "https://opensource.org/licenses/MIT"],
    "gpl-3.0": [
        *("GPLv3", "GPL-3.0-only", "GPL-3.0-or-later", "GNU General Public License v3.0", "gpl3"),
        "https://www.gnu.org/licenses/gpl-3.0.en.html",
    ],
    "agpl-3.0": ["AGPLv3", "GNU Affero General Public License v3"],
    "lgpl-2.1": ["LGPL-2.1-only", "GNU Lesser General Public License v2.1"],
    "cc-by-4.0": ["CC BY 4.0", "Creative Commons Attribution 4.0 International", "CC BY 4.0 (attribution)"],
    "cc-by-nc-sa-4.0": [
        "cc by nc sa 4.0",
        "Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0)",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ],
    "cc0-1.0": ["CC0", "Creative Commons Zero", "https://creativecommons.org/publicdomain/zero/1.0/"],
    "bsd-3-clause": ["BSD 3-Clause License", "3-clause BSD", "New BSD"],
    "llama3.1": ["Llama 3.1", "llama-3.1", "Llama 3.1 Community License Agreement"],
    "llama3": ["Meta Llama 3 Community License"],
    "gemma": ["Gemma Terms of Use"],
    "creativeml-openrail-m": ["CreativeML Open RAIL-M"],
    "mpl-2.0": ["Mozilla Public License 2.0"],
}


@pytest.mark.parametrize(
    ("spelling", "licence"), [(each, licence) for licence, found in SPELLINGS.items() for each in found]
)
def test_a_spelling_with_one_meaning_becomes_the_identifier_and_is_said(spelling, licence):
    read = read_license({"license": spelling})
    assert read.licence == licence
    assert [repair.code for repair in read.repairs] == [READ]
    assert f'"{spelling}"' in read.repairs[0].sentence
    assert f"as {licence}" in read.repairs[0].sentence


@pytest.mark.parametrize("licence", LICENSES)
def test_an_identifier_is_read_as_it_stands_and_its_name_on_this_site_too(licence):
    assert read_license({"license": licence}) == read_license({"license": [licence]})
    assert (read_license({"license": licence}).licence, read_license({"license": licence}).repairs) == (
        licence,
        (),
    )
    assert identifier_of(LICENSES[licence]) == licence


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Apache",
            "CC BY",
            "public domain",
            "proprietary",
            "MIT-0",
            "MIT (non-commercial use only)",
            "not mit",
        ),
        *("Apache 2.0 with LLVM exception", "license", "the", "v2", "2.0", "my-own", "x" * 10_000),
    ],
)
def test_a_name_with_no_meaning_or_several_is_another_licence_and_named(name):
    read = read_license({"license": name})
    assert read.licence == "other"
    assert name[:40] in read.repairs[0].sentence


@pytest.mark.parametrize(
    ("named", "licence"),
    [
        (["mit", "apache-2.0"], "apache-2.0"),
        (["Apache 2.0", "MIT License"], "apache-2.0"),
        ("MIT OR Apache-2.0", "apache-2.0"),
        ("mit, cc-by-nc-4.0", "cc-by-nc-4.0"),
        (["lgpl-3.0", "mpl-2.0"], "lgpl-3.0"),
        (["apache-2.0", "llama3.1"], "llama3.1"),
        (["mit", "cc-by-nd-4.0"], "cc-by-nd-4.0"),
        (["cc-by-nc-4.0", "cc-by-nc-nd-4.0"], "cc-by-nc-nd-4.0"),
    ],
)
def test_of_several_the_strictest_is_taken_and_said(named, licence):
    read = read_license({"license": named})
    assert read.licence == licence
    assert f"as {licence}, the strictest" in read.repairs[0].sentence


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        (["gpl-3.0", "cc-by-sa-4.0"], '"gpl-3.0", "cc-by-sa-4.0"'),
        (["cc-by-nc-4.0", "cc-by-nd-4.0"], '"cc-by-nc-4.0", "cc-by-nd-4.0"'),
        (["mit", "my-own"], 'no identifier for "my-own"'),
        (["mit", "other"], '"mit", "other"'),
        ("MIT + Commons Clause", 'no identifier for "Commons Clause"'),
        (["mit"] + [f"own-{i}" for i in range(20)], "and 13 more"),
    ],
)
def test_of_several_none_of_which_is_the_strictest_it_is_another_one_and_all_are_named(named, shown):
    read = read_license({"license": named})
    assert read.licence == "other"
    assert shown in read.repairs[0].sentence


@pytest.mark.parametrize("named", [["MIT", "mit"], ["MIT License", "mit"], "mit, MIT"])
def test_one_licence_that_is_named_twice_is_one(named):
    assert read_license({"license": named}).licence == "mit"


def test_a_mapping_is_none_and_said_and_nothing_is_nothing():
    read = read_license({"license": {"name": "mit"}})
    assert (read.licence, len(read.repairs)) == ("", 1)
    for empty in ({}, {"license": ""}, {"license": []}):
        assert (read_license(empty).licence, read_license(empty).repairs) == ("", ())


def test_the_key_may_be_spelled_as_in_britain():
    assert read_license({"licence": "mit"}).licence == "mit"


@pytest.mark.parametrize(
    ("named", "given", "differs"),
    [("mit", "apache-2.0", True), ("MIT License", "mit", False), (None, "mit", False), ("mit", "", False)],
)
def test_a_difference_is_said_where_both_say_something(named, given, differs):
    notes = license_difference({"license": named}, given)
    assert bool(notes) == differs
    assert all("mit" in note.sentence and "apache-2.0" in note.sentence for note in notes)


@pytest.mark.parametrize("written", ["null", "~", "Null", "NULL", "None", "", "[null]"])
def test_null_is_no_licence_and_no_base(written):
    card = read_any_card(f"---\nlicense: {written}\nbase_model: {written}\n---\n".encode())
    assert (license_of(card.card), base_models_of(card.card)) == ("", ())
    assert "other" not in " ".join(repair.sentence for repair in card.repairs)


def test_a_text_that_only_begins_like_null_stays():
    card = read_any_card(b"---\ntags: [nullable, nothing]\nlicense: mit\n---\n").card
    assert card.front_matter == {"tags": ["nullable", "nothing"], "license": "mit"}
