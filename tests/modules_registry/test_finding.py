"""Finding among many: misspelled words, synonyms, several words, facets, pages by cursor, suggestions."""

import json
from importlib import import_module

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hub_site.common.errors import Refusal
from modules_registry import counting
from modules_registry.catalog import (
    HubSearch,
    ModuleFilters,
    find_modules,
    repositories_page,
    tags_in_use,
    ways_on,
)
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.indexing import count_values, count_words, evidence_note, index_waiting
from modules_registry.models import FacetValue, Module, SearchWord, SynonymGroup
from modules_registry.repositories import repository_hide, repository_move
from modules_registry.selectors import held_find, module_find
from modules_registry.services import module_edit
from modules_registry.suggestions import suggestions
from modules_registry.words import mistakes, near_words, read_words, stems_of, words_add, words_in
from tests.factories import adapter_tensors, card_file, config_file, make_module, weights_file

SYNONYM_MIGRATIONS = ("0021_synonyms", "0024_words_of_other_spellings")
pytestmark = pytest.mark.django_db


@pytest.fixture
def library(alice, bob, base):
    """Five modules of two owners, with cards; and synonyms, which tests that empty the database take away."""
    for words in ("uppercase, capitals, capital letters", "medical, medicine"):
        SynonymGroup.objects.get_or_create(words=words)
    make_module(alice, "french", sentence="Translates words into French.", tags=["translation"], seed=1)
    make_module(
        alice,
        "spanish",
        sentence="Translates words into Spanish.",
        tags=["translation"],
        licence="cc-by-nc-4.0",
        seed=2,
        card_file=card_file("---\nlanguage: es\npipeline_tag: translation\n---\nTrained on café menus.\n"),
    )
    make_module(bob, "loud", sentence="Write it in capitals.", tags=["style"], seed=3)
    make_module(
        bob,
        "reader",
        sentence="Answers questions about medicine.",
        tags=["qa"],
        licence="cc-by-nd-4.0",
        seed=4,
    )
    elsewhere = config_file(
        base_model_name_or_path="google/flan-t5-large", r=4, lora_alpha=8, use_rslora=True
    )
    make_module(
        bob,
        "rooted",
        sentence="Summarizes long reports.",
        tags=["summary"],
        config_file=elsewhere,
        weights_file=weights_file(adapter_tensors(rank=4)),
    )


def names(q="", **filters):
    return {module.name for module in find_modules(ModuleFilters(q=q, **filters), size=24).modules}


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("spansh", {"spanish"}),
        ("frensh", {"french"}),
        ("spainsh", {"spanish"}),  # two letters exchanged
        ("uppercase", {"loud"}),
        ("capital letters", {"loud"}),
        ("translate", {"french", "spanish"}),
        ("translati", {"french", "spanish"}),  # a beginning longer than the stem
        ("café", {"spanish"}),
        ("CAFE", {"spanish"}),  # words of the card, without accents
        ("medical", {"reader"}),
        ('"words into spanish"', {"spanish"}),
        ("translates -french", {"spanish"}),
        ("please translate into spanish", {"spanish"}),  # nobody has “please”
        ("xyzzy", set()),
    ],
)
def test_what_was_meant_is_found(library, q, found):
    assert names(q) == found


@pytest.mark.parametrize(
    ("q", "found", "taken_for"),
    [
        ("uppercsae", {"loud"}, {"uppercsae": "uppercase"}),
        ("uppercae", {"loud"}, {"uppercae": "uppercase"}),
        ("upercased", {"loud"}, {"upercased": "uppercased"}),
        ("medcal", {"reader"}, {"medcal": "medical"}),
        ("captial leters", {"loud"}, {"captial": "capital", "leters": "letters"}),
        ("capitls", {"loud"}, {"capitls": "capitals"}),
        ("reprot", {"rooted"}, {"reprot": "report"}),
        ("summarizign", {"rooted"}, {"summarizign": "summarizing"}),
        ("answred", {"reader"}, {"answred": "answered"}),
        ("make it uppercase", {"loud"}, {}),
        ("makes uppercase", {"loud"}, {}),
        ("make capitls", {"loud"}, {"capitls": "capitals"}),
        ("make", set(), {}),
    ],
)
def test_typos_of_synonyms_and_of_other_forms_are_found_and_common_words_are_no_typos(
    library, alice, q, found, taken_for
):
    make_module(alice, "tools", sentence="Sorts a rake, a cake and what it takes.", tags=["garden"], seed=7)
    searched = find_modules(ModuleFilters(q=q), size=24)
    assert {module.name for module in searched.modules} == found
    assert dict(searched.taken_for) == taken_for


def test_a_misspelled_word_is_told_with_what_it_was_taken_for(library):
    assert find_modules(ModuleFilters(q="spansh"), size=24).taken_for == (("spansh", "spanish"),)
    assert find_modules(ModuleFilters(q="spanish"), size=24).taken_for == ()


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("spansh", "spanish", 1), ("frensh", "french", 1), ("ab", "ba", 1), ("", "abc", 3), ("same", "same", 0)],
)
def test_mistakes_are_counted(one, other, count):
    assert mistakes(one, other) == mistakes(other, one) == count


def demo_words():
    """Thirty words that the modules of the demo library are called by or described with."""
    bundle = json.loads((settings.BASE_DIR / "demo/bundle/bundle.json").read_text(encoding="utf-8"))
    texts = " ".join(f"{module['name']} {module['sentence']}" for module in bundle["modules"])
    stems = stems_of(words_in(texts))
    return sorted(word for word, stem in stems.items() if stem and len(word) >= 4)[:30]


def misspelled(word):
    """A word with each mistake of one letter: by kind."""
    middle = range(len(word))
    return {
        "swapped": {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in middle[:-1]} - {word},
        "dropped": {word[:i] + word[i + 1 :] for i in middle},
        "wrong": {word[:i] + letter + word[i + 1 :] for i in middle for letter in "eoxs"} - {word},
        "doubled": {word[:i] + word[i] + word[i:] for i in middle},
    }


def test_every_word_of_the_demo_library_is_found_with_one_mistake(db):
    """Save where the misspelled word is one of another meaning, or begins one."""
    words = demo_words()
    assert len(words) == 30
    words_add(words)
    for kind, least in {"swapped": 0.95, "dropped": 0.9, "wrong": 0.95, "doubled": 0.95}.items():
        typed = {(text, word) for word in words for text in misspelled(word)[kind]}
        nears = near_words({text for text, _ in typed})
        missed = sorted((text, word) for text, word in typed if word not in nears.get(text, [word]))
        assert len(missed) <= (1 - least) * len(typed), (kind, missed)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("anmial", "animal"),
        ("friut", "fruit"),
        ("qutoes", "quotes"),
        ("quoets", "quotes"),
        ("asnwer", "answer"),
        ("fernch", "french"),
        ("colth", "cloth"),
        ("letetr", "letter"),
        ("plcae", "place"),
        ("wrd", "word"),
        ("wprd", "word"),
        ("aniimal", "animal"),
        ("слвоо", "слово"),
        ("anm", None),
        ("plate", None),  # a known word
        ("xyzzyqqq", None),
        ("zzzz", None),
        ("the", None),
        ("anmials", "animals"),  # a form that nobody uses of a known word
        ("friuts", "fruits"),
        ("asnwering", "answering"),
        ("leter", "letter"),
        ("better", None),  # common words, spelled as they were meant
        ("makes", None),
        ("planes", None),
    ],
)
def test_the_known_word_with_one_mistake_is_meant(db, typed, meant):
    words_add(
        [
            "animal",
            "fruit",
            "quotes",
            "answer",
            "french",
            "cloth",
            "letter",
            "place",
            "plate",
            "word",
            "слово",
        ]
    )
    assert next(iter(near_words([typed]).get(typed, [])), None) == meant


@pytest.mark.parametrize(
    ("typed", "name"),
    [("frnech", "french"), ("spnaish", "spanish"), ("luod", "loud"), ("alice/frecnh", "french")],
)
def test_a_misspelled_beginning_is_suggested_what_was_meant(library, typed, name):
    assert name in {found.text.rpartition("/")[2] for found in suggestions(typed)}


@pytest.mark.parametrize(
    ("q", "near"), [("spanx", "spanish"), ("frenzied", "french"), ("summerhouse", "summarizes")]
)
def test_an_empty_result_names_the_nearest_words_of_the_library(library, client, q, near):
    assert names(q) == set()
    assert near in ways_on(find_modules(ModuleFilters(q=q), size=24)).words
    markup = client.get(f"/modules/?q={q}").content.decode()
    assert "The nearest words of the library" in markup
    assert f'href="?q={near}"' in markup
    assert f"/find/?text={q}" in markup
    assert near in client.get(f"/api/v1/modules?q={q}").json()["ways_on"]["words"]


def test_where_no_word_is_near_the_most_used_tags_lead_on(library, client):
    assert 'href="?tag=translation"' in client.get("/modules/?q=xyzzyqqq").content.decode()
    ways = client.get("/api/v1/modules?q=xyzzyqqq").json()["ways_on"]
    assert (ways["words"], set(ways["tags"])) == ([], {"translation", "style", "qa", "summary"})
    assert client.get("/api/v1/modules?q=spanish").json()["ways_on"] == {
        "words": [],
        "tags": [],
        "without": [],
    }


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("rank 4", {"rooted"}),
        ("rank=4", {"rooted"}),
        ("Rank-4 reports", {"rooted"}),
        ("r=2", {"french", "spanish", "loud", "reader"}),
        ("r = 4", {"rooted"}),
        ("rslora", {"rooted"}),
        ("rs-LoRA reports", {"rooted"}),
        ("rank-stabilized", {"rooted"}),
        ("rank 4 french", set()),
        ('"rank 4"', set()),
        ("frank 4", set()),
        ("r4", {"rooted"}),
        ("R4 reports", {"rooted"}),
        ("lora-r4", set()),
        ("alice/rank4", set()),
        ("rank4/xyzzy", set()),
        ("bob/rslora", set()),
        ("mit", {"french", "loud", "rooted"}),
        ("MIT licensed french", {"french"}),
        ("license: mit french", {"french"}),
        ("cc by nc 4.0", {"spanish"}),
        ("cc-by-nd-4.0 medicine", {"reader"}),
        ("apache", set()),
        ("bob/mit", set()),
        ('"mit"', set()),
    ],
)
def test_rank_and_scaling_are_read_as_filters(library, client, q, found):
    assert {module["name"] for module in client.get("/api/v1/modules", {"q": q}).json()["results"]} == found
    assert {
        module.name for module in repositories_page(HubSearch(q=q), None, cursor="", size=9).rows
    } == found
    assert {module.name for module in client.get("/modules/", {"q": q}).context["found"].modules} == found


def test_a_name_with_its_owner_is_a_name_first(library, bob):
    for name in ("rank4", "r4-french", "apache-2.0"):
        make_module(bob, name, sentence="Says nothing.", seed=len(name))
        found = find_modules(ModuleFilters(q=f"bob/{name}"), size=24)
        assert ([module.name for module in found.modules], found.read_as) == ([name], ())


@pytest.mark.parametrize("name", ["Apache", "apache 2.0", "Apache-2.0", "apache2"])
def test_a_license_is_found_by_what_it_is_called(library, bob, name):
    make_module(bob, "free", sentence="Says nothing.", licence="apache-2.0", seed=7)
    assert names(name) == {"free"}


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("-french", {"spanish", "loud", "reader", "rooted"}),
        ("-translates", {"loud", "reader", "rooted"}),
        ('-"into french" -loud -reader', {"spanish", "rooted"}),
        ("alice -french", {"spanish"}),
        ("-french rank 4", {"rooted"}),
    ],
)
def test_what_is_excluded_is_not_found(library, q, found):
    assert names(q) == found


@pytest.mark.parametrize(
    ("query", "without"),
    [
        ("language=es&rank=4", {"language": ("Spanish", "rank=4", 1), "rank": ("4", "language=es", 1)}),
        ("q=rank+4+capitals", {"q": ("capitals", "rank=4", 1), "rank": ("4", "q=capitals", 1)}),
        ("q=captials&tag=qa", {"q": ("captials", "tag=qa", 1), "tag": ("qa", "q=captials", 1)}),
        ("language=fr&rank=2", {"language": ("French", "rank=2", 4)}),  # of a value that nothing has
        ("author=nobody&rank=2", {"author": ("nobody", "rank=2", 4)}),
        ("author=nobody&language=fr", {}),
        ("q=xyzzyqqq&rank=4", {"q": ("xyzzyqqq", "rank=4", 1)}),
        ("q=translates+please&rank=4", {"q": None, "rank": ("4", "q=translates+please", 2)}),
        ("fits=alice/french&base=google/flan-t5-large", {"fits": None, "base": None}),
        ("language=fr", {}),
    ],
)
def test_an_empty_result_offers_what_each_choice_taken_back_would_leave(library, client, query, without):
    listed = client.get(f"/api/v1/modules?{query}").json()
    assert listed["count"] == 0
    offered = {way["filter"]: way for way in listed["ways_on"]["without"]}
    assert offered.keys() == without.keys()
    markup = client.get(f"/modules/?{query}").content.decode()
    assert ("With one choice removed" in markup) == bool(without)
    for name, way in offered.items():
        if without[name] is not None:
            assert (way["chosen"], way["query"], way["count"]) == without[name]
        assert client.get(f"/api/v1/modules?{way['query']}").json()["count"] == way["count"]
        assert f"Without {'Words' if name == 'q' else ''}" in markup


@pytest.mark.parametrize("query", ["q=rank+4+capitals", "q=medicine&tag=style", "q=spansh&rank=4"])
def test_words_that_the_library_knows_are_not_said_to_be_unknown(library, client, query):
    markup = client.get(f"/modules/?{query}").content.decode()
    assert "No module matches" in markup
    assert "word of the library is" not in markup
    ways = client.get(f"/api/v1/modules?{query}").json()["ways_on"]
    assert (ways["words"], ways["tags"]) == ([], [])


@pytest.mark.parametrize(
    ("q", "signs"),
    [("c++", ["c++"]), ("C# french", ["c#"]), ("r&d", ["r&d"]), ("+ french", ["+"]), ("french", [])],
)
def test_signs_are_said_not_to_be_searched(library, client, q, signs):
    assert client.get("/api/v1/modules", {"q": q}).json()["not_searched"] == signs
    markup = client.get("/modules/", {"q": q}).content.decode()
    assert ("signs, and single letters beside one, are no words" in markup) == bool(signs)
    assert "No other word" not in markup


def test_what_was_read_as_a_filter_is_said(library, client):
    markup = client.get("/modules/?q=rank+4+reports").content.decode()
    assert "“rank 4” was read as the filter <strong>Rank: 4</strong>" in markup
    said = client.get("/api/v1/modules?q=rank+4+reports+rslora").json()["read_as"]
    assert said == [
        {"text": "rank 4", "filter": "rank", "value": "4"},
        {"text": "rslora", "filter": "scaling", "value": "rslora"},
    ]
    assert client.get("/api/v1/modules?q=rank+4&rank=2").json()["read_as"] == []


@pytest.mark.parametrize(
    ("q", "name"),
    [
        ("uppercased", "loud"),
        ("capitalised", "loud"),
        ("capitalising", "loud"),
        ("summarises", "rooted"),
        ("summarisation", "rooted"),
        ("español", "spanish"),
        ("castellano", "spanish"),
        ("xray", "scans"),
        ("x-ray", "scans"),
        ("X-Rays", "scans"),
        ("pretrained", "scans"),
        ("anonymize", "scans"),
        ("colour", "scans"),
    ],
)
def test_other_endings_and_spellings_of_a_word_are_the_same_word(library, alice, q, name):
    sentence = "Anonymises color X-ray reports of pre-trained readers."
    make_module(alice, "scans", sentence=sentence, tags=["scans"], seed=7)
    SynonymGroup.objects.get_or_create(words="summary, summarize, summarization")
    SynonymGroup.objects.get_or_create(words="capitals, capitalize")
    assert name in names(q)


@pytest.mark.parametrize(
    ("q", "name"),
    [
        ("translate", "italian"),
        ("translator", "italian"),
        ("pluralise", "many"),
        ("pluralizing", "many"),
        ("uppercased", "loud"),
    ],
)
def test_the_synonyms_that_a_site_begins_with_find_the_demo_s_sentences(library, alice, q, name):
    make_module(alice, "italian", sentence="Say the word in Italian.", tags=["demo"], seed=7)
    make_module(alice, "many", sentence="Give the plural.", tags=["demo"], seed=8)
    SynonymGroup.objects.all().delete()
    first, later = (import_module(f"modules_registry.migrations.{name}") for name in SYNONYM_MIGRATIONS)
    SynonymGroup.objects.bulk_create(
        SynonymGroup(words=later.GROUPS.get(each, each)) for each in first.GROUPS
    )
    assert name in names(q)


def test_a_module_of_a_language_is_found_by_what_its_speakers_call_it(alice, base):
    for language, own in {"fr": "français", "de": "Deutsch", "uk": "українська"}.items():
        card = card_file(f"---\nlanguage: {language}\n---\nWords.\n")
        make_module(alice, f"in-{language}", card_file=card, seed=len(own))
        assert names(own) == {f"in-{language}"}


@pytest.mark.parametrize(
    ("q", "first"), [("capitals", "loud"), ("medicine", "reader"), ("summarize", "rooted")]
)
def test_who_says_the_word_itself_comes_before_a_synonym_in_a_name(library, alice, q, first):
    for words in ("capitals, caps", "medicine, clinic", "summarize, abstract"):
        SynonymGroup.objects.create(words=words)
    for name in ("caps-lock", "clinic-notes", "abstract-writer"):
        make_module(alice, name, sentence="Does what its name says.", seed=len(name))
    found = [module.name for module in find_modules(ModuleFilters(q=q), size=24).modules]
    assert found[0] == first
    assert len(found) > 1


def test_a_hash_finds_its_module_by_every_door(library, client):
    module = module_find("alice", "french")
    weights = module.current.files.get(path=WEIGHTS_FILE)
    for digest in (
        weights.sha256,
        weights.sha256[:7],
        module.current.commit_id[:7],
        f"sha256:{weights.sha256}",
    ):
        listed = client.get("/api/v1/modules", {"q": digest}).json()
        assert [found["name"] for found in listed["results"]] == ["french"]
        assert listed["hash_matches"][0]["id"] == "alice/french"
        assert [found["id"] for found in client.get("/api/models", {"search": digest}).json()] == [
            "alice/french"
        ]
        assert "This hash belongs to" in client.get("/modules/", {"q": digest}).content.decode()
    assert client.get("/api/v1/modules?q=" + "0" * 40).json()["results"] == []


def test_a_hash_of_a_hidden_module_finds_nothing(library, client):
    module = module_find("alice", "french")
    Module.objects.filter(pk=module.pk).update(private=True)
    found = client.get("/api/v1/modules", {"q": module.current.commit_id}).json()
    assert (found["results"], found["hash_matches"]) == ([], [])


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        ("alice/nope", "no module “alice/nope”"),
        ("nobody/french", "no module “nobody/french”"),
        ("french", "as “owner/name”"),
        ("bob/rooted", "google/flan-t5-large"),
    ],
)
def test_what_nothing_can_fit_is_an_error_that_says_why(library, client, fits, said):
    answer = client.get("/api/v1/modules", {"fits": fits})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["fields"]["fits"][0]
    assert client.get("/api/v1/modules/facets", {"fits": fits}).status_code == 400
    page = client.get("/modules/", {"fits": fits, "q": "spanish"})
    assert said in page.content.decode()
    assert [module.name for module in page.context["found"].modules] == ["spanish"]


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ("sort=updated", "trending, downloads"),
        ("composable=1", "Known: yes."),
        ("allows=selling", "commercial, derivatives"),
        ("scaling=fast", "standard, rslora"),
    ],
)
def test_a_refused_value_is_told_with_those_that_are_accepted(library, client, query, known):
    answer = client.get(f"/api/v1/modules?{query}")
    assert answer.status_code == 400
    assert known in answer.json()["error"]["message"]


@pytest.mark.parametrize("tag", ["Translation", "TRANSLATION", "translation"])
def test_the_api_takes_a_tag_as_its_page_does(library, client, tag):
    assert client.get(f"/api/v1/tags/{tag}").json()["name"] == "translation"


def test_a_module_with_all_words_leaves_those_with_some_to_a_click(library):
    all_words = find_modules(ModuleFilters(q="translates words spanish"), size=24)
    assert [module.name for module in all_words.modules] == ["spanish"]
    any_word = find_modules(ModuleFilters(q="translates words spanish", match="any"), size=24)
    assert [module.name for module in any_word.modules] == ["spanish", "french"]  # who has more comes first


def test_without_a_module_of_all_words_as_many_as_can_be_are_asked_for(library):
    found = find_modules(ModuleFilters(q="summarizes long french reports"), size=24)
    assert [module.name for module in found.modules] == ["rooted"]
    assert (found.words_needed, found.words_asked) == (3, 4)


def test_staff_s_synonyms_work_at_once(library):
    assert names("shouting") == set()
    SynonymGroup.objects.create(words="shouting, capitals")
    assert names("shouting") == {"loud"}


def test_words_of_a_private_module_are_nobody_s_suggestion(alice, base):
    make_module(alice, "hidden", sentence="About quokkas.", tags=["quokka"], private=True)
    assert not SearchWord.objects.filter(word__startswith="quokka").exists()
    assert suggestions("quokka") == []
    assert find_modules(ModuleFilters(q="quokas"), size=24).taken_for == ()
    repository_hide(editor=alice, module=module_find("alice", "hidden", alice), private=False)
    index_waiting()
    assert [found.text for found in suggestions("quokka")] == ["quokka"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"language": ("es",)}, {"spanish"}),
        ({"task": ("translation",)}, {"spanish"}),
        ({"allows": ("commercial",)}, {"french", "loud", "reader", "rooted"}),
        ({"allows": ("commercial", "derivatives")}, {"french", "loud", "rooted"}),
        ({"rank": "4"}, {"rooted"}),
        ({"scaling": "rslora"}, {"rooted"}),
        ({"scaling": "standard"}, {"french", "spanish", "loud", "reader"}),
        ({"target": ("q", "v")}, {"french", "spanish", "loud", "reader", "rooted"}),
        ({"architecture": "T5ForConditionalGeneration"}, {"french", "spanish", "loud", "reader"}),
        ({"composable": "yes"}, {"french", "spanish", "loud", "reader"}),
        ({"size": "under-1mb"}, {"french", "spanish", "loud", "reader", "rooted"}),
        ({"size": "over-1gb"}, set()),
        ({"evidence": "yes"}, {"loud"}),
        ({"author": "Alice", "tags": ("translation",)}, {"french", "spanish"}),
        ({"author": "nobody"}, set()),
    ],
)
def test_every_facet_narrows(library, filters, found):
    evidence_note(Module.objects.filter(name="loud").values_list("pk", flat=True))
    assert names(**filters) == found


def test_each_count_is_what_a_click_leaves(library):
    """Over all facets, for an empty search, for words, and with a choice made."""
    for filters in (ModuleFilters(), ModuleFilters(q="translates"), ModuleFilters(licence="mit", rank="2")):
        for facet in find_modules(filters, size=1).facets:
            for value in facet.values:
                if not value.is_chosen:
                    left = find_modules(value.filters, size=24).count
                    assert (left, value.is_exact) == (value.count, True), (filters, facet.name, value.value)


def test_above_the_limit_counts_say_at_least(library, monkeypatch):
    monkeypatch.setattr(counting, "EXACT_MAX", 3)
    monkeypatch.setattr(counting, "LOOKED_AT_MAX", 2)
    found = find_modules(ModuleFilters(composable="yes", sort="name"), size=24)
    assert (found.count, found.is_exact, found.count_text) == (3, False, "3+")
    [owners] = [facet for facet in found.facets if facet.name == "author"]
    assert sum(value.count for value in owners.values) == 2
    assert all(value.count_text.endswith("+") for value in owners.values)
    assert [module.name for module in found.modules] == ["french", "loud", "reader", "spanish"]


def test_a_large_library_s_counts_are_those_of_the_last_minute(library, monkeypatch):
    monkeypatch.setattr(counting, "EXACT_MAX", 3)
    count_values()
    [licences] = [facet for facet in find_modules(ModuleFilters(), size=1).facets if facet.name == "licence"]
    assert {value.value: value.count for value in licences.values} == {
        "mit": 3,
        "cc-by-nc-4.0": 1,
        "cc-by-nd-4.0": 1,
    }
    assert ("translation", 2) in tags_in_use()


@pytest.mark.parametrize("sort", ["recent", "newest", "downloads", "likes", "trending", "name"])
def test_pages_by_cursor_hold_every_module_once_there_and_back(library, sort):
    whole = [module.pk for module in find_modules(ModuleFilters(sort=sort), size=24).modules]
    assert len(whole) == 5
    for filters in (ModuleFilters(sort=sort), ModuleFilters(sort=sort, size="under-1mb")):
        page = find_modules(filters, size=2)
        assert page.previous == ""
        pages = [page]
        while page.next:
            page = find_modules(filters, size=2, cursor=page.next)
            pages.append(page)
        assert [module.pk for page in pages for module in page.modules] == whole
        back = find_modules(filters, size=2, cursor=pages[-1].previous)
        assert [module.pk for module in back.modules] == [module.pk for module in pages[-2].modules]


def test_what_is_published_meanwhile_moves_no_page(library, alice):
    first = find_modules(ModuleFilters(), size=2)
    make_module(alice, "newer", seed=9)
    second = find_modules(ModuleFilters(), size=2, cursor=first.next)
    assert {module.pk for module in first.modules}.isdisjoint({module.pk for module in second.modules})


def test_pages_of_best_matches_hold_every_match_once(library):
    filters = ModuleFilters(q="translates words", match="any")
    first = find_modules(filters, size=1)
    second = find_modules(filters, size=1, cursor=first.next)
    assert {first.modules[0].name, second.modules[0].name} == {"french", "spanish"}
    assert second.next == ""
    assert find_modules(filters, size=1, cursor=second.previous).modules == first.modules


@pytest.mark.parametrize("cursor", ["x", "e30", "W10", "WyJuZXh0IiwicmVjZW50IiwieCIsMV0", "a" * 500])
def test_a_cursor_of_nothing_is_refused(library, cursor):
    with pytest.raises(Refusal, match="cursor is not of this list"):
        find_modules(ModuleFilters(), size=2, cursor=cursor)


def test_a_cursor_of_another_order_is_refused(library):
    by_name = find_modules(ModuleFilters(sort="name"), size=2)
    with pytest.raises(Refusal):
        find_modules(ModuleFilters(), size=2, cursor=by_name.next)


def test_the_page_names_the_nearest_and_offers_examples_where_nothing_matches(library, client):
    markup = client.get("/modules/?q=spanish&licence=mit").content.decode()
    assert "No module matches" in markup
    assert "/find/?text=spanish" in markup
    assert "Closest matches" in markup
    assert "alice/</span>spanish" in markup


def test_the_page_leads_on_by_cursor(library, client, monkeypatch):
    monkeypatch.setattr("modules_registry.views.PAGE_SIZE", 2)
    first = client.get("/modules/?sort=name")
    assert [module.name for module in first.context["found"].modules] == ["french", "loud"]
    address = first.context["found"].next
    assert f"cursor={address}" in first.content.decode()
    second = client.get(f"/modules/?sort=name&cursor={address}")
    assert [module.name for module in second.context["found"].modules] == ["reader", "rooted"]
    assert client.get("/modules/?cursor=nonsense").status_code == 200


def test_suggestions_name_tags_bases_owners_and_modules(library):
    texts = {(found.kind, found.text) for found in suggestions("tra")}
    assert ("tag", "translation") in texts
    assert ("base", "google/flan-t5-large") in {(found.kind, found.text) for found in suggestions("flan")}
    assert ("author", "alice") in {(found.kind, found.text) for found in suggestions("ali")}
    assert ("module", "alice/spanish") in {(found.kind, found.text) for found in suggestions("spa")}
    assert ("module", "alice/spanish") in {(found.kind, found.text) for found in suggestions("spanih")}
    assert ("module", "alice/french") in {(found.kind, found.text) for found in suggestions("alice/fr")}
    assert suggestions("t") == suggestions("\x00\x00") == []


@pytest.mark.parametrize("address", ["/modules/suggestions/?q=spa", "/api/v1/suggestions?q=spa"])
def test_suggestions_come_by_page_and_api(library, client, address):
    assert "alice/spanish" in client.get(address).content.decode()


def test_every_page_has_a_search_field_with_suggestions(library, client):
    for address in ("/", "/modules/", "/alice/french"):
        assert 'hx-get="/modules/suggestions/"' in client.get(address).content.decode()


def test_the_api_tells_counts_facets_and_corrections(library, client):
    listed = client.get("/api/v1/modules?q=spansh").json()
    assert (listed["count"], listed["count_is_exact"]) == (1, True)
    assert listed["corrections"] == [{"word": "spansh", "taken_for": "spanish"}]
    facets = {
        facet["name"]: facet
        for facet in client.get("/api/v1/modules/facets?tag=translation").json()["facets"]
    }
    assert {value["value"]: value["count"] for value in facets["author"]["values"]} == {"alice": 2}


def test_a_hub_client_pages_by_cursor_and_sees_its_owner_s_drafts(library, alice):
    first = repositories_page(HubSearch(sort="downloads"), None, cursor="", size=3)
    second = repositories_page(HubSearch(sort="downloads"), None, cursor=first.next, size=3)
    assert len({module.pk for module in [*first.rows, *second.rows]}) == 5
    assert second.next == ""
    Module.objects.create(namespace=alice.namespace, name="begun", key="begun")
    assert [module.name for module in repositories_page(HubSearch(), alice, cursor="", size=1).rows] == [
        "begun"
    ]


def test_a_moved_and_an_edited_module_are_found_as_they_are_now(library, alice):
    module = module_find("alice", "french")
    repository_move(editor=alice, module=module, namespace=alice.namespace, name="gallic")
    assert names("gallic") == {"gallic"}
    module_edit(editor=alice, module=module_find("alice", "gallic"), sentence="Says nothing.", tags=["quiet"])
    assert names(tags=("translation",)) == {"spanish"}
    assert names(tags=("quiet",)) == {"gallic"}


def test_a_lookup_reads_by_index_and_follows_a_former_name(library, alice):
    module = module_find("alice", "french")
    repository_move(editor=alice, module=module, namespace=alice.namespace, name="gallic")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert module_find("ALICE", "French").name == "gallic"
    assert len(queries) == 3


def test_an_address_that_no_module_has_is_read_with_its_versions_once(library, alice):
    """A base model's page asks for one first."""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert module_find("alice", "nothing") is None
        assert held_find("alice", "nothing", alice) is None
    assert len(queries) == 3
    assert sum("modules_registry_version" in query["sql"] for query in queries) == 1


def test_counts_of_words_follow_the_library(library):
    count_words()
    assert SearchWord.objects.get(word="translates").n_modules == 2
    assert SearchWord.objects.get(word="medicine").n_modules == 1


def test_values_are_counted_without_what_is_not_everybody_s(library, alice):
    Module.objects.filter(name="french").update(private=True)
    count_values()
    assert FacetValue.objects.get(facet="author", value="alice").n_modules == 1


@pytest.mark.parametrize(
    "q", ["a & | !", "((((", "-", '"', '""', '-"', "- -a", "'; drop table", "%_%", "\\", "ﬁ"]
)
def test_no_text_is_more_than_words(library, q):
    read_words(q)
    find_modules(ModuleFilters(q=q), size=24)


PAGES = (
    "/modules/",
    "/modules/?q=spansh+transltion",
    "/modules/?q=translates+words&licence=mit&tag=translation&base=tests/tiny&author=alice",
    "/modules/?q=nothing+like+it",
    "/modules/?q=xyzzyqqq+frnakish+unheardofword",
    "/modules/?q=rank+4+rslora+summarises+reports",
    "/modules/?q=uppercsae+captial+leters&rank=4&author=alice",
    "/modules/?q=xyzzyqqq+frnakish+spansh+unheardofword&rank=4&author=alice&language=es",
    "/modules/?q=defaced+spansh&rank=4&author=alice",
    "/api/v1/modules?q=spansh+xyzzyqqq&rank=4&language=es",
    "/modules/?q=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "/modules/?q=spanish&fits=alice/nope",
    "/modules/suggestions/?q=frnech",
    "/",
    "/modules/suggestions/?q=spanih",
    "/alice",
    "/alice/spanish",
    "/tests/tiny",
    "/api/v1/modules?q=spanish",
    "/api/v1/modules/facets?q=spanish&licence=mit&rank=2",
    "/api/v1/suggestions?q=spa",
    "/api/v1/bases",
    "/api/v1/tags",
    "/api/models?search=spanish&filter=translation",
    "/api/models?full=true",
    "/api/models/alice/spanish",
    "/api/models/alice/spanish/tree/main",
    "/alice/spanish/resolve/main/adapter_config.json",
)


@pytest.mark.parametrize("address", PAGES)
def test_no_page_asks_the_database_more_than_twelve_times(library, client, address):
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(address)
    assert answer.status_code == 200
    assert len(queries) <= 12, [query["sql"][:200] for query in queries]


def test_a_facet_s_link_leads_to_the_search_that_it_counts(library, client):
    [facet] = [
        facet
        for facet in find_modules(ModuleFilters(q="words", tags=("translation",)), size=1).facets
        if facet.name == "licence"
    ]
    for value in facet.values:
        found = client.get(f"/modules/?{value.query}").context["found"]
        assert (found.filters, found.count) == (value.filters, value.count)
