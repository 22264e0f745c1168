"""The pages of a tag and of a base model, for people and for programs."""

import pytest

from modules_registry.evidence import evidence_record
from modules_registry.models import BaseAlias, Evidence, Module
from modules_registry.popularity import module_like
from tests.factories import BASE_NAME, LAYERS, WIDTH, config_file, make_module

pytestmark = pytest.mark.django_db


def test_a_tag_has_a_page_with_what_it_is_used_with(client, alice, bob, base):
    french = make_module(alice, "french", tags=["french", "words"])
    make_module(bob, "verbs", seed=1, tags=["french", "verbs", "words"])
    make_module(bob, "spanish", seed=2, tags=["spanish"])
    module_like(user=alice, module=french)
    page = client.get("/tags/french/").content.decode()
    assert 0 < page.index("alice/</span>french") < page.index("bob/</span>verbs")  # though it is older
    assert "bob/</span>spanish" not in page
    told = client.get("/api/v1/tags/french").json()
    assert (told["modules_count"], told["modules_count_is_exact"]) == (2, True)
    assert told["tags"] == [{"name": "words", "count": 2}, {"name": "verbs", "count": 1}]
    assert told["bases"] == [{"name": BASE_NAME, "count": 2}]
    assert 'href="/tags/words/"' in client.get("/alice/french").content.decode()


def test_a_tag_is_written_one_way_and_one_that_nobody_may_see_does_not_exist(
    client, alice, french, browser_of
):
    assert client.get("/tags/French/")["Location"] == "/tags/french/"
    Module.objects.update(private=True)
    for address in ("/tags/french/", "/api/v1/tags/french", "/tags/nobody-s/", "/tags/%EF%BF%BF/"):
        assert client.get(address).status_code == 404
    assert browser_of(alice).get("/tags/french/").status_code == 200


def test_a_base_model_tells_its_revision_its_dimensions_and_its_modules(client, french, base):
    told = client.get(f"/api/v1/bases/{BASE_NAME}").json()
    assert (told["revision"], told["modules_count"]) == (base.revision, 1)
    names = [layer.rpartition(".")[2] for layer in LAYERS]
    expected = [{"name": "lm_head", "count": 1, "d_out": 16, "d_in": WIDTH}]
    expected += [{"name": name, "count": 1, "d_out": WIDTH, "d_in": WIDTH} for name in names]
    assert told["layers"] == expected
    page = client.get(f"/{BASE_NAME}").content.decode()
    assert f"{WIDTH} × {WIDTH}" in page
    assert "alice/</span>french" in page
    assert client.get("/api/v1/bases/nobody/none").status_code == 404


def test_a_base_s_page_shows_the_modules_with_the_most_evidence_first(client, alice, base):
    names = ("plain", "measured-once", "measured-twice", "loved")
    modules = {name: make_module(alice, name, seed=seed) for seed, name in enumerate(names)}
    Module.objects.filter(name="loved").update(downloads=1000)
    for name, tasks in (("measured-once", ["a"]), ("measured-twice", ["a", "b"])):
        evidence_record(
            Evidence(
                module=modules[name], weights_sha256=modules[name].current.weights_sha256, kind="alone",
                source=f"task:{task}", task=task, n_examples=5, loss_nats=1.0, reference_nats=2.0,
            )
            for task in tasks
        )  # fmt: skip
    page = client.get(f"/{base.name}").content.decode()
    places = {name: page.index(f'href="/alice/{name}"') for name in names}
    assert sorted(places, key=places.__getitem__) == ["measured-twice", "measured-once", "loved", "plain"]


FOREIGN = "google/flan-t5-small"


@pytest.fixture
def foreign(alice, bob, base):
    """Two modules for a base that the library does not have, and one for one that it has."""
    make_module(alice, "here")
    for owner, name, base_name in ((alice, "there", FOREIGN), (bob, "else", FOREIGN.upper())):
        make_module(owner, name, config_file=config_file(base_model_name_or_path=base_name))


def test_a_base_elsewhere_has_a_page_that_says_so(client, foreign):
    page = client.get(f"/{FOREIGN}").content.decode()
    assert 'href="/alice/there"' in page
    assert 'href="/alice/here"' not in page
    assert f'href="https://huggingface.co/{FOREIGN}"' in page
    assert "cannot be composed" in page
    assert f'href="/{FOREIGN}"' in client.get("/alice/there").content.decode()
    assert f'href="/{FOREIGN}"' in client.get(f"/modules/?base={FOREIGN}").content.decode()


def test_a_base_elsewhere_is_told_to_programs(client, foreign, base):
    told = client.get(f"/api/v1/bases/{FOREIGN}").json()
    assert (told["name"], told["is_here"], told["modules_count"]) == (FOREIGN, False, 1)
    assert told["hub_url"] == f"https://huggingface.co/{FOREIGN}"
    assert (told["revision"], told["kind"], told["layers"]) == ("", None, [])
    here = client.get(f"/api/v1/bases/{base.name}").json()
    assert (here["is_here"], here["hub_url"]) == (True, None)


def test_every_base_that_the_facet_names_has_a_page(client, foreign):
    facets = client.get("/api/v1/modules/facets").json()["facets"]
    [bases] = [facet["values"] for facet in facets if facet["name"] == "base"]
    assert len(bases) == 3
    for each in bases:
        assert client.get(f"/{each['value']}").status_code == 200
        told = client.get(f"/api/v1/bases/{each['value']}").json()
        assert told["modules_count"] == each["count"]


def test_a_base_is_found_in_any_case_and_by_its_other_names(client, foreign, base):
    assert client.get("/Google/flan-t5-small")["Location"].casefold() == f"/{FOREIGN}"
    BaseAlias.objects.create(name="unsloth/tiny-4bit", base=base)
    assert client.get("/unsloth/tiny-4bit")["Location"] == f"/{base.name}"
    assert client.get("/api/v1/bases/unsloth/tiny-4bit").json()["name"] == base.name


@pytest.mark.parametrize("address", ["/{}", "/{}/tree/main", "/api/v1/bases/{}"])
def test_a_base_of_private_modules_alone_is_none_for_strangers(client, foreign, alice, browser_of, address):
    Module.objects.update(private=True)
    assert client.get(address.format(FOREIGN)).status_code == 404
    assert browser_of(alice).get(address.format(FOREIGN)).status_code == 200
    assert client.get(address.format("nobody/none")).status_code == 404


def test_a_base_without_an_owner_leads_to_its_modules(client, alice):
    make_module(alice, "small", config_file=config_file(base_model_name_or_path="gpt2"))
    assert 'href="/modules/?base=gpt2"' in client.get("/alice/small").content.decode()
