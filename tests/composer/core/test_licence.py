"""The licence of an adapter, in its card and its report."""

import pytest

from composer.core.evaluation.licence import license_of


@pytest.mark.parametrize(
    ("licences", "identifier", "told"),
    [
        (["mit", "apache-2.0"], "apache-2.0", "Apache 2.0: the strictest of the modules' licenses."),
        (["cc-by-nc-4.0", "mit"], "cc-by-nc-4.0", "non-commercial"),
        (["", "mit"], "other", "The terms of bob/0 are not known here or are their own"),
        (
            ["", "cc-by-sa-4.0"],
            "other",
            "Of the others, CC BY-SA 4.0 (attribution, share alike) is the strictest",
        ),
        (["other", "other"], "other", "The terms of bob/0, bob/1 are not known here"),
        (["", ""], "", "The modules state no license."),
        ([], "", "No module has a weight"),
    ],
)
def test_the_strictest_licence_of_the_modules_is_that_of_the_adapter(licences, identifier, told):
    found = license_of({f"bob/{number}": licence for number, licence in enumerate(licences)})
    assert found.identifier == identifier
    assert told in found.text
    assert found.conflict == ""


@pytest.mark.parametrize(
    ("licences", "told"),
    [
        (["cc-by-nd-4.0", "mit"], "bob/0 is under CC BY-ND 4.0"),
        (["gpl-3.0", "cc-by-nc-4.0"], "no license suits both"),
    ],
)
def test_where_no_licence_is_possible_the_card_says_why(licences, told):
    found = license_of({f"bob/{number}": licence for number, licence in enumerate(licences)})
    assert found.identifier == ""
    assert told in found.conflict == found.text
