"""The licence of what is made from others, as a table."""

import pytest

from modules_registry.core.licenses.combining import (
    NO_DERIVATIVES,
    STRICTNESS,
    LicenseConflict,
    combine_licenses,
)
from modules_registry.core.licenses.names import LICENSES


def combined(*licences):
    return combine_licenses({f"bob/{number}": licence for number, licence in enumerate(licences)})


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["mit"], "mit"),
        (["cc0-1.0", "mit"], "mit"),
        (["apache-2.0", "mit", "bsd-3-clause"], "apache-2.0"),
        (["mit", "cc-by-4.0"], "cc-by-4.0"),
        (["cc-by-4.0", "cc-by-sa-4.0"], "cc-by-sa-4.0"),
        (["apache-2.0", "gpl-3.0"], "gpl-3.0"),
        (["mpl-2.0", "mit"], "mpl-2.0"),
        (["mpl-2.0", "agpl-3.0"], "agpl-3.0"),
        (["lgpl-3.0", "gpl-3.0", "mit"], "gpl-3.0"),
        (["mit", "llama2"], "llama2"),
        (["cc-by-4.0", "cc-by-nc-4.0"], "cc-by-nc-4.0"),
        (["cc-by-nc-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
    ],
)
def test_the_strictest_of_the_parents_licences_holds(licences, expected):
    for order in (licences, licences[::-1]):
        found = combined(*order)
        assert (found.licence, found.unread) == (expected, ())


@pytest.mark.parametrize(
    "licences",
    [
        ["gpl-3.0", "cc-by-nc-sa-4.0"],
        ["gpl-3.0", "cc-by-nc-4.0"],
        ["gpl-3.0", "agpl-3.0"],
        ["cc-by-sa-4.0", "gpl-3.0"],
        ["cc-by-sa-4.0", "cc-by-nc-sa-4.0"],
        ["llama2", "gemma"],
        ["mit", "openrail", "cc-by-nc-4.0"],
        ["unknown", "gpl-3.0", "cc-by-nc-4.0"],
    ],
)
def test_licences_that_exclude_each_other_are_refused_by_name(licences):
    with pytest.raises(LicenseConflict) as refused:
        combined(*licences)
    assert refused.value.code == "licences_exclude_each_other"
    assert all(LICENSES[licence] in str(refused.value) for licence in licences[-2:])


@pytest.mark.parametrize(
    "licences",
    [
        ["cc-by-nd-4.0"],
        ["cc-by-nc-nd-4.0"],
        ["mit", "cc-by-nc-nd-3.0"],
        ["mit", "cc-by-nd-4.0"],
        ["unknown", "cc-by-nd-4.0"],
    ],
)
def test_a_licence_that_forbids_derivatives_is_refused(licences):
    with pytest.raises(LicenseConflict, match="forbids publishing what is made from it"):
        combined(*licences)


@pytest.mark.parametrize("licence", ["unknown", "other", "", "a-licence-of-their-own"])
def test_terms_nobody_here_can_read_make_it_other_and_are_named(licence):
    found = combined("mit", licence)
    assert (found.licence, found.unread, found.strictest_known) == ("other", ("bob/1",), "mit")


def test_every_licence_on_offer_has_a_place():
    placed = {licence for licence in LICENSES if licence in STRICTNESS}
    assert all(combined(licence).licence == licence for licence in placed)
    # Terms for data, fonts, research, and names of several licences: their owner has to say what they allow.
    assert LICENSES.keys() - placed - set(NO_DERIVATIVES) == {
        *("other", "unknown", "cc", "gpl", "lgpl", "lgpl-lr", "gfdl", "ofl-1.1", "c-uda", "openmdw-1.0"),
        *("apple-ascl", "apple-amlr", "deepfloyd-if-license", "fair-noncommercial-research-license"),
        *("grok2-community", "h-research", "intel-research"),
    }


@pytest.mark.parametrize(
    "licence", ["llama3.1", "llama3.2", "llama4", "gemma", "creativeml-openrail-m", "artistic-2.0"]
)
def test_licences_that_keep_their_terms_go_with_permissive_ones_alone(licence):
    assert combined("mit", licence).licence == licence
    with pytest.raises(LicenseConflict, match="no license suits both"):
        combined(licence, "gpl-3.0")
