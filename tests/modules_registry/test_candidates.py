"""What choosing among thousands reads: kept by the database itself, and the same that a visitor may see."""

import pytest
from django.core.cache import caches

from hub_site.accounts.models import Namespace
from hub_site.moderation.services import account_decide
from modules_registry.candidates import (
    candidates_of,
    common_shape,
    found_by,
    match_words,
    shapes_counted,
    words_of,
)
from modules_registry.holds import module_quarantine, module_release
from modules_registry.models import BaseModel, Candidate, CandidateWord, Module, Version
from modules_registry.repositories import repository_move
from modules_registry.services import module_delete, module_edit, version_add
from tests.factories import adapter_files, config_file, make_base, make_module, weights_file


@pytest.fixture
def base(db, tmp_path):
    return make_base(tmp_path / "base")


@pytest.fixture
def module(base, bob):
    return make_module(bob, "fruit", sentence="Names the fruits in capitals", tags=["plural"])


def seen_by(base, viewer):
    """The names of the candidates, once they are held against the rule of every other way in."""
    names = set(candidates_of(base, viewer).values_list("name", flat=True))
    composable = Version.objects.filter(base=base, current_of__in=Module.objects.visible_to(viewer))
    assert names == {version.module.full_name for version in composable}
    return names


def hold(bob, staff, module):
    module_quarantine(staff=staff, module=module, reason="It is looked at.")


def delete(bob, staff, module):
    module_delete(editor=bob, module=module)


def suspend(bob, staff, module):
    account_decide(staff=staff, account=bob, decision="suspend", reason="It is looked at.")


def lose_the_base(bob, staff, module):
    Version.objects.update(base=None)


def remove_the_row(bob, staff, module):
    Module.objects.filter(pk=module.pk).update(current=None)
    Version.objects.filter(module=module).delete()
    Module.objects.filter(pk=module.pk).delete()


@pytest.mark.parametrize("change", [hold, delete, suspend, lose_the_base, remove_the_row])
def test_what_nobody_may_compose_is_no_candidate_whoever_takes_it_away(
    change, base, module, alice, bob, staff
):
    assert seen_by(base, alice) == seen_by(base, None) == {"bob/fruit"}
    change(bob, staff, module)
    assert seen_by(base, alice) == seen_by(base, bob) == set()
    assert not CandidateWord.objects.exists()


def test_a_private_module_is_its_people_s_and_a_released_one_everybody_s(base, module, alice, bob, staff):
    Module.objects.update(private=True)
    assert (seen_by(base, alice), seen_by(base, bob)) == (set(), {"bob/fruit"})
    hold(bob, staff, module)
    assert seen_by(base, bob) == set()
    module.refresh_from_db()
    module_release(staff=staff, module=module)
    Module.objects.update(private=False)
    assert seen_by(base, alice) == {"bob/fruit"}


def test_it_follows_a_new_version_a_new_name_and_another_base(base, module, bob, tmp_path):
    version, _ = version_add(author=bob, module=module, **adapter_files(seed=7))
    assert Candidate.objects.get().version_id == version.pk
    assert Candidate.objects.get().weights_sha256 == version.weights_sha256
    module.refresh_from_db()
    repository_move(editor=bob, module=module, namespace=bob.namespace, name="fruits")
    assert Candidate.objects.get().name == "bob/fruits"
    Namespace.objects.filter(pk=bob.namespace.pk).update(name="robert", key="robert")
    assert Candidate.objects.get().name == "robert/fruits"
    other = make_base(tmp_path / "other", name="tests/other")
    Version.objects.update(base=BaseModel.objects.get(pk=other.pk))
    assert (candidates_of(base).count(), candidates_of(other).count()) == (0, 1)


def found(base, text, limit=10):
    matches = match_words(base, candidates_of(base), words_of(text), limit)
    names = dict(Candidate.objects.values_list("pk", "name"))
    return [(names[match.module_id], match.shared) for match in matches]


def test_words_match_in_their_stems_and_rare_ones_count_more(base, module, bob):
    for number in range(5):
        make_module(bob, f"m{number}", seed=number, sentence="Names the animals", tags=[])
    assert found(base, "Write animals and a fruit as capital letters")[0] == (
        "bob/fruit",
        ("capital", "fruit"),
    )
    assert len(found(base, "animals, fruit")) == 6
    assert len(found(base, "animals, fruit", limit=2)) == 2
    assert found(base, "nothing of this") == []
    assert found(base, "of") == []


def test_words_that_every_candidate_has_say_nothing(base, bob):
    for number in range(3):
        make_module(bob, f"m{number}", seed=number, sentence="Names the animals", tags=[])
    assert found(base, "animals") == []


def test_it_follows_what_is_said_of_the_module(base, module, bob):
    make_module(bob, "other", seed=3, sentence="Something else", tags=[])
    assert found(base, "vegetables") == []
    module_edit(editor=bob, module=module, sentence="Names vegetables", tags=["rivers"])
    assert found(base, "vegetable")[0][0] == found(base, "river")[0][0] == "bob/fruit"
    assert found(base, "plural") == []


@pytest.mark.parametrize("text", ["frui", "BOB/FR", "capital", "capitals", "plur", "fruit capitals", "%"])
def test_a_list_is_searched_by_parts_of_names_and_beginnings_of_words(base, module, bob, text):
    make_module(bob, "other", seed=3, sentence="Something else", tags=[])
    names = [candidate.name for candidate in found_by(base, candidates_of(base), text)]
    assert names == ([] if text == "%" else ["bob/fruit"])


def test_the_common_shape_is_the_one_of_most_modules_whatever_order_the_targets_have(base, bob):
    make_module(bob, "a-wide", config_file=config_file(r=4, lora_alpha=8), weights_file=weights_file(rank=4))
    make_module(bob, "narrow")
    assert common_shape(shapes_counted(candidates_of(base))) == (4, 2.0, ("q", "v"))  # the first of two
    make_module(bob, "turned", seed=1, config_file=config_file(target_modules=["v", "q"]))
    assert common_shape(shapes_counted(candidates_of(base))) == (2, 2.0, ("q", "v"))
    assert common_shape([]) is None


def test_shapes_of_many_are_counted_once_a_minute_for_each_who_sees_the_same(base, bob, monkeypatch):
    monkeypatch.setattr("modules_registry.candidates.SHAPES_AT_ONCE", 0)
    make_module(bob, "narrow")
    (before,) = shapes_counted(candidates_of(base))
    make_module(bob, "turned", seed=1, private=True)
    assert shapes_counted(candidates_of(base)) == [before]
    (own,) = shapes_counted(candidates_of(base, bob))
    assert (before.count, own.count) == (1, 2)
    caches["process"].clear()
