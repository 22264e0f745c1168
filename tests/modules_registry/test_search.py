"""Finding modules: words, parts of names, filters, counts."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modules_registry import catalog
from modules_registry.candidates import candidates_of
from modules_registry.catalog import (
    HubSearch,
    ModuleFilters,
    find_modules,
    module_search,
    repositories_listed,
    tags_in_use,
)
from modules_registry.facets import facet_values
from modules_registry.indexing import facts_of_module
from modules_registry.models import FacetValue, Module, Version
from modules_registry.selectors import module_find
from modules_registry.services import module_delete, module_edit
from tests.factories import card_file, config_file, make_module

pytestmark = pytest.mark.django_db


@pytest.fixture
def library(alice, bob, base):
    """Four modules of two owners; one is for a base that the library does not have."""
    make_module(
        alice,
        "french",
        sentence="Translates words into French.",
        tags=["translation", "words"],
        licence="mit",
    )
    make_module(
        alice,
        "spanish",
        sentence="Translates words into Spanish.",
        tags=["translation"],
        licence="apache-2.0",
    )
    make_module(
        bob, "squad_v2.0", sentence="Answers questions about a paragraph.", tags=["qa"], licence="mit"
    )
    elsewhere = config_file(base_model_name_or_path="google/flan-t5-large")
    make_module(bob, "capitals", sentence="Writes in capitals.", tags=["words"], config_file=elsewhere)


def found(**filters):
    return [module.full_name for module in module_search(ModuleFilters(sort="name", **filters))]


def facets_of(filters):
    return find_modules(filters, size=24).facets


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("french", ["alice/french"]),
        ("translate", ["alice/french", "alice/spanish"]),  # another form of the word
        ("transl", ["alice/french", "alice/spanish"]),  # its beginning
        ("span", ["alice/spanish"]),
        ("panis", ["alice/spanish"]),  # a part of the name
        ("squad_v2.0", ["bob/squad_v2.0"]),
        ("alice/french", ["alice/french"]),
        ("Bob", ["bob/capitals", "bob/squad_v2.0"]),
        ("bob/", ["bob/capitals", "bob/squad_v2.0"]),
        ("translates spanish", ["alice/spanish"]),
        ('"words into french"', ["alice/french"]),
        ("qa", ["bob/squad_v2.0"]),
        ("flan", ["bob/capitals"]),
        ("nothing like it", []),
    ],
)
def test_words_find_modules(library, q, names):
    assert found(q=q) == names


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bob/capitals", "alice/french", "alice/spanish", "bob/squad_v2.0"]),
        ({"tags": ("words",)}, ["bob/capitals", "alice/french"]),
        ({"tags": ("words", "translation")}, ["alice/french"]),
        ({"base": "google/flan-t5-large"}, ["bob/capitals"]),
        ({"licence": "apache-2.0"}, ["alice/spanish"]),
        ({"author": "BOB"}, ["bob/capitals", "bob/squad_v2.0"]),
        ({"author": "alice", "q": "words", "tags": ("translation",)}, ["alice/french", "alice/spanish"]),
        ({"tags": ("no-such-tag",)}, []),
    ],
)
def test_filters_narrow_together(library, filters, names):
    assert found(**filters) == names


def test_without_words_the_newest_change_comes_first(library, alice):
    module_edit(editor=alice, module=module_find("alice", "french"), licence="mit")
    assert module_search(ModuleFilters())[0].full_name == "alice/french"


def test_with_words_the_best_match_comes_first(library, alice, base):
    make_module(alice, "place-french", sentence="French, French, and French again.", tags=["french"])
    make_module(alice, "other", sentence="Not French, but near.")
    for q in ("french", "alice/french"):
        assert module_search(ModuleFilters(q=q))[0].name == "french"
    assert [module.name for module in module_search(ModuleFilters(q="french"))][-1] == "other"


def test_a_deleted_module_is_nowhere(library, alice, base):
    module_delete(editor=alice, module=module_find("alice", "french"))
    assert "alice/french" not in found()
    assert found(q="french") == []
    assert ("translation", 1) in tags_in_use()
    assert "french" not in {candidate.module.name for candidate in candidates_of(base)}


def test_facets_count_what_a_click_would_leave(library):
    filters = ModuleFilters(tags=("translation",), licence="mit")
    facets = {facet.name: {value.value: value for value in facet.values} for facet in facets_of(filters)}
    counts = {
        name: {value.value: value.count for value in values.values()} for name, values in facets.items()
    }
    assert counts["tags"] == {"translation": 1, "words": 1}
    assert counts["licence"] == {"mit": 1, "apache-2.0": 1}  # what the other choice would give
    assert counts["author"] == {"alice": 1}
    for name, values in facets.items():
        for value in values.values():
            if not value.is_chosen:
                assert module_search(value.filters).count() == value.count, (name, value.value)


@pytest.mark.parametrize(
    "search",
    [
        lambda tags: module_search(ModuleFilters(tags=tags)),
        lambda tags: repositories_listed(HubSearch(filters=tags), None),
    ],
    ids=["page", "Hub client"],
)
def test_all_tags_must_be_there_and_eight_make_no_larger_query_than_one(library, search):
    assert [module.name for module in search(("words", "translation"))] == ["french"]
    FacetValue.objects.bulk_create(FacetValue(facet="tag", value=name) for name in "abcdefgh")
    one, eight = (str(search(tuple("abcdefgh")[:count]).query).count("JOIN") for count in (1, 8))
    assert one == eight


def test_a_chosen_facet_is_taken_back_by_its_link(library):
    [facet] = [facet for facet in facets_of(ModuleFilters(licence="mit")) if facet.name == "licence"]
    chosen = next(value for value in facet.values if value.is_chosen)
    assert chosen.filters == ModuleFilters()


def test_only_current_versions_of_the_base_are_composable(library, alice, base):
    module_edit(editor=alice, module=module_find("alice", "french"), card="# A second version")
    candidates = list(candidates_of(base))
    assert [candidate.name for candidate in candidates] == [
        "alice/french",
        "alice/spanish",
        "bob/squad_v2.0",
    ]
    assert candidates[0].version.number == 2


def test_look_alikes_of_an_address_find_nothing(library):
    assert module_find("ALICE", "French").full_name == "alice/french"
    assert module_find("alice", "frenc") is None
    assert module_find("bob", "squad-v2.0") is None


@given(q=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_breaks_the_search(db, q):
    assert list(module_search(ModuleFilters(q=q))) == []


@pytest.mark.parametrize(
    "q", ["a & | !", "((((", "'; drop table", "%_%", "\\", "a:*b", "<->", "-", '"', "or and", "/"]
)
def test_operators_are_words_like_others(library, q):
    assert len(found(q=q)) <= Module.objects.count()


def test_wildcards_match_themselves(library):
    assert found(q="%") == []
    assert found(q="squad_v") == ["bob/squad_v2.0"]
    assert found(q="squadxv") == []


def test_a_large_ranking_is_kept_until_something_changes(alice, base, monkeypatch):
    monkeypatch.setattr(catalog, "RANKED_MAX", 2)  # three modules are many, the two newest are ranked
    for name in ("french-verbs", "french-nouns", "french-names"):
        make_module(alice, name)
    filters = ModuleFilters(q="french")

    def found():
        return {module.name for module in find_modules(filters, None, size=10).modules}

    assert found() == {"french-nouns", "french-names"}
    with CaptureQueriesContext(connection) as asked:
        found()
    assert not any("ts_rank" in query["sql"].lower() for query in asked.captured_queries)
    late = make_module(alice, "french-adverbs")
    assert found() == {"french-names", "french-adverbs"}
    module_edit(editor=alice, module=late, private=True)
    assert found() == {"french-nouns", "french-names"}


@pytest.mark.parametrize("query", ["rank=4&rank=16", "q=a&q=b", "base=a&base=c", "licence=mit&licence=mit"])
def test_a_filter_of_one_value_that_comes_twice_is_refused(client, library, query):
    answer = client.get(f"/api/v1/modules?{query}")
    assert answer.status_code == 400
    assert "takes one value" in answer.json()["error"]["fields"][query.partition("=")[0]][0]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rank=4&rank=16", "“rank” takes one value. The last one, “16”, is used."),
        ("sort=best&sort=newest", "“sort” takes one value. The last one, “newest”, is used."),
        ("sort=magic", "“magic” is no value of “sort” (best, "),
        ("match=all", "“all” is no value of “match” (any). It was left out."),
        ("license=mit", "“license” is no filter of the library. It was left out."),
        (
            "tag=a&tag=b&tag=c&tag=d&tag=e&tag=f&tag=g&tag=h&tag=i",
            "“tag” takes 8 values. The others were left out.",
        ),
    ],
)
def test_the_page_says_what_it_leaves_out_of_its_address(client, library, query, said):
    assert said in client.get(f"/modules/?{query}").content.decode()


@pytest.mark.parametrize("query", ["", "rank=4&tag=a&tag=b&q=x&cursor=", "sort=&rank=", "utm_source=mail"])
def test_a_whole_address_has_nothing_left_out(client, library, query):
    answer = client.get(f"/modules/?{query}")
    assert answer.context["left_out"] == []


def test_a_fault_in_a_repeated_filter_has_the_name_of_the_filter(client, library):
    fields = client.get("/api/v1/modules?allows=commercial&allows=magic").json()["error"]["fields"]
    assert list(fields) == ["allows"]


def test_a_language_is_asked_for_by_its_name_too(client, alice, base):
    make_module(alice, "vert", card_file=card_file("---\nlanguage: fr\n---\n# vert\n"))
    for said in ("fr", "French", "french", "fr-FR"):
        assert client.get(f"/api/v1/modules?language={said}").json()["count"] == 1
        assert "alice/vert" in client.get(f"/modules/?language={said}").content.decode()


def test_the_architecture_is_that_of_the_base_also_of_what_is_not_composable(alice, base):
    module = make_module(alice, "plain")
    Version.objects.filter(module=module).update(base=None, not_composable="It is a DoRA.")
    module.refresh_from_db()
    values = dict(facet_values(facts_of_module(module, Version.objects.get(module=module), [], {})))
    assert values["architecture"] == base.architecture
    assert "composable" not in values
