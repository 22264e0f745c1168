"""What changed between two versions: configuration, card, and how far the weights went."""

import pytest

from modules_registry import measuring
from modules_registry.explore import changes
from modules_registry.explore.changes import card_diff, changes_between, config_diff
from modules_registry.models import VersionDistance
from modules_registry.services import module_edit, version_add
from tests.factories import card_file, config_file, make_module, weights_file


@pytest.fixture
def versions(base, alice):
    """Four versions: the first, other weights with another alpha, another card, other weights again."""
    module = make_module(alice, "french", card_file=card_file("# French\n\nOne.\nTwo.\n"))
    version_add(
        author=alice, module=module, config_file=config_file(lora_alpha=8), weights_file=weights_file(seed=1)
    )
    module_edit(editor=alice, module=module, card="# French\n\nOne.\nThree.\n")
    version_add(author=alice, module=module, config_file=config_file(), weights_file=weights_file(seed=2))
    for version in module.versions.order_by("pk"):
        measuring.version_measure(version.pk)
    return {version.number: version for version in module.versions.prefetch_related("files")}


def test_the_keys_of_the_configuration_that_differ_are_told_with_both_values(versions):
    found = changes_between(versions[1], versions[2])
    assert [(fact.key, fact.before, fact.after) for fact in found.config] == [("lora_alpha", "4", "8")]
    assert found.card == ()
    assert config_diff({"a": 1}, {"b": None})[0].after == ""


def test_the_lines_of_the_card_that_differ_are_told(versions):
    found = changes_between(versions[2], versions[3])
    told = [(line.kind, line.text) for line in found.card if line.kind in ("added", "removed")]
    assert told == [("removed", "Two."), ("added", "Three.")]
    assert found.weights.is_same
    assert found.config == ()


@pytest.mark.parametrize(("first", "second"), [(1, 2), (3, 4), (2, 4), (1, 4)])
def test_the_distance_of_the_weights_is_that_of_the_files(versions, first, second):
    """Of neighbours from what a worker stored, also beyond a card, of others from the files."""
    found = changes_between(versions[first], versions[second]).weights
    exact = measuring.distance_of(versions[first], versions[second])
    assert found.distance == pytest.approx(exact.distance, rel=1e-5)
    assert found.cosine == pytest.approx(exact.cosine)
    assert found.layers[0].distance == pytest.approx(max(each.distance for each in exact.layers), rel=1e-5)
    assert found.layers[0].width == 100


def test_large_weights_are_compared_as_a_worker_stored_it_or_not_at_all(versions, monkeypatch):
    monkeypatch.setattr(changes, "COMPARED_BYTES_MAX", 0)
    assert changes_between(versions[1], versions[2]).weights.distance > 0
    assert "the version before" in changes_between(versions[1], versions[4]).weights.reason
    VersionDistance.objects.all().delete()
    assert changes_between(versions[1], versions[2]).weights.reason


def test_a_card_of_which_too_much_differs_is_not_compared_line_by_line():
    many = "\n".join(f"line {number}" for number in range(2000))
    other = "\n".join(f"row {number}" for number in range(2000))
    assert card_diff(many, other) == ((), True)
    lines, is_too_long = card_diff(many, many.replace("line 999\n", "another\n"))
    assert not is_too_long
    assert [line.text for line in lines if line.kind == "added"] == ["another"]


def test_the_page_compares_the_last_two_versions_unless_told(versions, client):
    page = client.get("/alice/french/changes").content.decode()
    assert "What changed from v3 to v4" in page
    assert "What changed from v1 to v3" in client.get("/alice/french/changes?from=v1&to=v3").content.decode()
    assert client.get("/alice/french/changes?from=v9").status_code == 404


def test_the_versions_of_the_module_s_page_say_how_far_the_weights_went(versions, client):
    page = client.get("/alice/french").content.decode()
    assert "/alice/french/changes?to=v2" in page
    assert f"{versions[2].distance_before.distance:.4g}" in page


def test_the_api_says_the_same(versions, client):
    told = client.get("/api/v1/modules/alice/french/changes?from=v1&to=v2").json()
    assert (told["before"], told["after"]) == ("v1", "v2")
    assert told["config"] == [{"key": "lora_alpha", "before": "4", "after": "8"}]
    assert {"path", "distance", "cosine", "norm_before", "norm_after"} == set(told["weights"]["layers"][0])
    assert client.get("/api/v1/modules/alice/french/changes").json()["before"] == "v3"


def test_programs_name_versions_by_number_too_and_are_told_those_there_are(client, versions):
    where = "/api/v1/modules/alice/french/changes"
    assert client.get(f"{where}?from=1&to=2").json() == client.get(f"{where}?from=v1&to=v2").json()
    for asked in ("from=9", "from=v9", "from=1&to=x", "from=0", "from=²"):
        answer = client.get(f"{where}?{asked}")
        assert answer.status_code == 404
        assert "Known: v4, v3, v2, v1." in answer.json()["error"]["message"]
