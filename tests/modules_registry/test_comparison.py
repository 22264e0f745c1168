"""Modules side by side: where they differ, and whether they go together."""

import pytest

from modules_registry.models import Module
from modules_registry.services import module_publish
from tests.factories import config_file, make_module, weights_file

pytestmark = pytest.mark.django_db
ADDRESS = "/api/v1/modules/compare"


@pytest.fixture
def wider(bob, base):
    files = {"config_file": config_file(r=4), "weights_file": weights_file(rank=4, seed=3)}
    return module_publish(author=bob, namespace=bob.namespace, name="wider", licence="apache-2.0", **files)


def test_facts_stand_in_the_order_asked_for_and_say_where_they_differ(client, french, wider):
    told = client.get(ADDRESS, {"id": ["bob/wider", "alice/french"]}).json()
    assert [module["id"] for module in told["modules"]] == ["bob/wider", "alice/french"]
    facts = {row["name"]: row for row in told["facts"]}
    assert (facts["rank"]["values"], facts["rank"]["differs"]) == (["4", "2"], True)
    assert (facts["base"]["differs"], facts["licence"]["differs"]) == (False, True)


def test_it_says_by_which_method_they_can_be_composed_and_exactly_why_not(client, french, wider):
    fits = {
        fit["method"]: fit
        for fit in client.get(ADDRESS, {"id": ["alice/french", "bob/wider"]}).json()["fits"]
    }
    assert fits["sum"] == {"method": "sum", "fits": True, "reasons": []}
    [reason, *_] = fits["factors"]["reasons"]
    assert (fits["factors"]["fits"], reason["module"]) == (False, "bob/wider")
    assert "Its rank is 4; the others have 2." in reason["reason"]


def test_the_page_shows_them_and_asks_for_a_second_one(client, bob, french):
    make_module(bob, "verbs", seed=1)
    page = client.get("/modules/compare/", {"id": ["alice/french", "bob/verbs", "", ""]}).content.decode()
    assert "Compose with them" in page
    assert "/compositions/new/?modules=alice%2Ffrench&amp;modules=bob%2Fverbs" in page
    alone = client.get("/modules/compare/?id=alice/french").content.decode()
    assert 'value="alice/french"' in alone
    assert "<h2" not in alone.partition("<main")[2].partition("</main>")[0]
    assert "/modules/compare/?id=alice/french" in client.get("/alice/french").content.decode()


@pytest.mark.parametrize(
    "ids", [[], ["alice/french"], ["alice/french"] * 3, ["alice/french", "ALICE/French"], list("abcde")]
)
def test_too_few_too_many_or_the_same_are_refused(client, french, ids):
    assert client.get(ADDRESS, {"id": ids}).status_code == 400


def test_what_the_reader_may_not_see_is_not_there(client, french, wider):
    Module.objects.filter(name="wider").update(private=True)
    refused = client.get(ADDRESS, {"id": ["alice/french", "bob/wider"]})
    assert refused.status_code == 400
    assert "no module" in refused.json()["error"]["message"]
    assert (
        refused.json()["error"]["message"].replace("bob/wider", "x")
        == (client.get(ADDRESS, {"id": ["alice/french", "x"]}).json()["error"]["message"])
    )
