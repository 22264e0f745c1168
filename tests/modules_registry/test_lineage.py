"""What a module was made from: who sees it, and that it stays with the weights."""

import pytest

from modules_registry.lineage import composed_from, lineage_record, used_in
from modules_registry.services import module_delete, module_edit, version_add
from tests.factories import config_file, make_module, weights_file

API = "/api/v1/modules/alice/mix"


@pytest.fixture
def mix(alice, bob):
    """Alice's module, made of two of Bob's with the weights 0.25 and -0.75."""
    parents = [make_module(bob, name, seed=seed) for seed, name in enumerate(("first", "second"))]
    child = make_module(alice, "mix", seed=9)
    shares = zip((parent.current for parent in parents), (0.25, -0.75), strict=True)
    lineage_record(version=child.current, parents=list(shares))
    return child


def names(found):
    return [(parent.module.full_name, parent.weight) for parent in found.parents]


def test_parents_are_told_heaviest_first(mix, charlie):
    assert names(composed_from(mix.current, charlie)) == [("bob/second", -0.75), ("bob/first", 0.25)]


def test_a_parent_that_became_private_is_counted_and_has_no_name_for_strangers(mix, alice, bob, client):
    first = bob.namespace.modules.get(name="first")
    module_edit(editor=bob, module=first, private=True)
    found = composed_from(mix.current, alice)
    assert (names(found), found.hidden) == ([("bob/second", -0.75)], 1)
    page = client.get("/alice/mix").content.decode()
    assert "bob/second" in page
    assert "bob/first" not in page
    assert "1 more is not shown" in page
    assert composed_from(mix.current, bob).hidden == 0


def test_a_deleted_parent_is_counted_and_its_version_stays_for_what_was_made_from_it(mix, bob):
    first = bob.namespace.modules.get(name="first")
    module_delete(editor=bob, module=first)
    assert composed_from(mix.current, bob).hidden == 1
    assert first.versions.count() == 1


def test_another_card_keeps_the_lineage_and_other_weights_end_it(mix, alice, bob):
    module_edit(editor=alice, module=mix, card="# Another card\n")
    assert len(composed_from(mix.current, bob).parents) == 2
    version_add(author=alice, module=mix, config_file=config_file(), weights_file=weights_file(seed=10))
    mix.refresh_from_db()
    assert composed_from(mix.current, bob).parents == ()
    assert used_in(bob.namespace.modules.get(name="first"), bob) == []


def test_a_parent_s_page_says_where_it_is_used_but_not_of_private_ones(
    mix, alice, charlie, browser_of, client
):
    assert 'href="/alice/mix"' in client.get("/bob/first").content.decode()
    module_edit(editor=alice, module=mix, private=True)
    assert "alice/mix" not in browser_of(charlie).get("/bob/first").content.decode()
    assert "alice/mix" in browser_of(alice).get("/bob/first").content.decode()


def test_the_api_tells_both_directions(mix, client):
    told = client.get(API).json()["composed_from"]
    assert told["hidden"] == 0
    assert [(parent["id"], parent["version"], parent["weight"]) for parent in told["parents"]] == [
        ("bob/second", 1, -0.75),
        ("bob/first", 1, 0.25),
    ]
    assert client.get("/api/v1/modules/bob/first").json()["used_in"] == ["alice/mix"]
