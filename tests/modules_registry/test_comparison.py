"""Modules side by side: where they differ, and whether they go together."""

import pytest

from modules_registry import measuring
from modules_registry.evidence import evidence_record
from modules_registry.models import Evidence, Module
from modules_registry.selectors import strengths_of
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


def test_strengths_are_shares_of_the_squared_norm_by_layer_name(client, french, wider):
    address, ids = "/api/v1/modules/compare", {"id": ["alice/french", "bob/wider"]}
    assert client.get(address, ids).json()["strengths"] == []
    measuring.version_measure(french.current.pk)
    rows = {row["name"]: row["values"] for row in client.get(address, ids).json()["strengths"]}
    french.current.refresh_from_db()
    layers = strengths_of(french.current)
    squares = {name: sum(s.norm**2 for s in layers if s.path.endswith(f".{name}")) for name in ("q", "v")}
    total = sum(squares.values())
    expected = {
        f"share_{name}": f"{100 * square / total:.0f} %" for name, square in squares.items() if square
    }
    assert rows["norm"] == [f"{total**0.5:.3g}", "not measured"]
    assert {name: values[0] for name, values in rows.items() if name != "norm"} == expected
    assert all(values[1] == "not measured" for values in rows.values())
    assert "Weight strength by layer" in client.get("/modules/compare/", ids).content.decode()


def test_losses_stand_side_by_side_where_two_were_measured_on_the_same_examples(client, french, wider):
    def alone(module, task, n_examples, loss, **changes):
        weights = changes.get("weights_sha256", module.current.weights_sha256)
        source = f"task:{task}:{n_examples}"
        return Evidence(
            module=module, weights_sha256=weights, kind="alone", source=source, task=task,
            n_examples=n_examples, loss_nats=loss, reference_nats=2.0,
        )  # fmt: skip

    evidence_record([alone(french, "plurals", 5, 0.5), alone(wider, "plurals", 5, 1.25)])
    evidence_record([alone(french, "capitals", 5, 0.1)])  # the other one was not measured on it
    evidence_record([alone(french, "colours", 5, 0.1), alone(wider, "colours", 8, 0.2)])  # other examples
    stale = alone(wider, "fruits", 5, 0.2, weights_sha256="0" * 64)
    evidence_record([alone(french, "fruits", 5, 0.1), stale])  # of weights that it has no more
    ids = {"id": ["bob/wider", "alice/french"]}
    [row] = client.get("/api/v1/modules/compare", ids).json()["losses"]
    assert row["label"] == "plurals (5 examples; base alone 2.00)"
    assert row["values"] == ["1.25", "0.50"]
    page = client.get("/modules/compare/", ids).content.decode()
    assert "Loss on the same examples" in page
