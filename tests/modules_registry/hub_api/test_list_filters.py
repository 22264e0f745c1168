"""list_models() and model_info() say and filter the same as the library's facets."""

import pytest

from modules_registry.catalog import ModuleFilters, module_search
from modules_registry.services import module_edit
from tests.factories import card_file, make_base, make_module

pytestmark = pytest.mark.django_db


@pytest.fixture
def library(alice, bob, tmp_path):
    make_base(tmp_path / "base")
    card = "---\nlanguage:\n- fr\n- en\npipeline_tag: translation\n---\n# French\n"
    make_module(alice, "french", tags=["words"], card_file=card_file(card))
    make_module(alice, "verbs", seed=1, tags=["french", "translation"])
    make_module(bob, "sums", seed=2, tags=["code"])


def listed(client, query):
    return sorted(each["id"] for each in client.get(f"/api/models?{query}").json())


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("filter=fr", ["alice/french", "alice/verbs"]),
        ("filter=language:fr", ["alice/french", "alice/verbs"]),
        ("filter=language:French", ["alice/french", "alice/verbs"]),
        ("filter=en", ["alice/french"]),
        ("filter=fr&filter=en", ["alice/french"]),
        ("filter=fr,en", ["alice/french"]),
        ("filter=de", []),
        ("filter=language:xx", []),
        ("filter=translation", ["alice/french", "alice/verbs"]),  # what it is for, or a tag
        ("pipeline_tag=translation", ["alice/french"]),
        ("filter=pipeline_tag:translation", ["alice/french"]),
        ("pipeline_tag=text2text-generation", ["alice/french", "alice/verbs", "bob/sums"]),
        ("pipeline_tag=translation&filter=fr", ["alice/french"]),
        ("pipeline_tag=summarization", []),
        ("filter=code", ["bob/sums"]),
        ("filter=code&filter=fr", []),
        ("pipeline_tag=translation%00", []),
    ],
)
def test_languages_and_tasks_filter_as_on_the_site(client, library, query, names):
    assert listed(client, query) == names


@pytest.mark.parametrize("facet", ["language", "task"])
def test_what_a_facet_finds_the_protocol_finds_too(client, library, facet):
    offered = client.get("/api/models-tags-by-type").json()
    values = [each["id"] for each in offered["language" if facet == "language" else "pipeline_tag"]]
    assert {"language": {"fr", "en"}, "task": {"translation", "text2text-generation"}}[facet] <= set(values)
    for value in values:
        found = sorted(module.full_name for module in module_search(ModuleFilters(**{facet: (value,)})))
        name = {"language": "filter", "task": "pipeline_tag"}[facet]
        assert listed(client, f"{name}={value}") == found, value


def test_a_module_is_told_with_its_languages_and_its_card_s_task(client, library, alice):
    info = client.get("/api/models/alice/french").json()
    assert info["pipeline_tag"] == "translation"
    assert {"fr", "en", "translation", "text2text-generation", "words"} <= set(info["tags"])
    verbs = client.get("/api/models/alice/verbs").json()
    assert verbs["pipeline_tag"] == "text2text-generation"
    assert "fr" in verbs["tags"]
    assert len(verbs["tags"]) == len(set(verbs["tags"]))


@pytest.mark.parametrize("query", ["", "full=true"])
def test_a_list_tells_the_same_as_each_alone(client, library, query):
    for row in client.get(f"/api/models?{query}").json():
        info = client.get(f"/api/models/{row['id']}").json()
        assert row["pipeline_tag"] == info["pipeline_tag"]
        assert set(row["tags"]) == set(info["tags"])


def test_each_filter_finds_what_shows_it(client, library):
    """Whatever stands among the tags of a module finds that module."""
    for row in client.get("/api/models").json():
        for tag in row["tags"]:
            assert row["id"] in listed(client, f"filter={tag}"), tag


def test_an_older_version_is_told_by_its_own_card(client, library, alice):
    module = alice.namespace.modules.get(name="french")
    module_edit(editor=alice, module=module, card="---\nlanguage: de\n---\n# German\n")
    assert "de" in client.get("/api/models/alice/french").json()["tags"]
    old = client.get("/api/models/alice/french/revision/v1").json()
    assert "fr" in old["tags"]
    assert "de" not in old["tags"]
