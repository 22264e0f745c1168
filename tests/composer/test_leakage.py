"""A module that was composed from a task's own examples is no candidate for that task."""

import pytest

from composer.core.spec.examples import Example
from composer.matching.leakage import leakage_text, leaking_modules
from composer.matching.ranking import rank_modules
from composer.models import Composition
from composer.request.services import composition_request
from composer.task.demo_tasks import demo_tasks
from hub_site.common.errors import Refusal
from modules_registry.lineage import lineage_record
from tests.composer.conftest import HELD_OUT, SHOTS
from tests.factories import make_module
from tests.pages.rendered import collapsed

pytestmark = pytest.mark.usefixtures("wakes")

ADDRESS = "/api/v1/compositions"
NEW = "/compositions/new/"
OTHER = [Example("kiwi", "KIWI"), Example("melon", "MELON")]
LIBRARY = {"bob/first", "bob/fruit", "bob/upper"}


@pytest.fixture
def publish(modules):
    """Say that a composition became a module of this name, for everybody to see."""

    def become(composition, name):
        module = make_module(composition.owner, name, seed=len(name))
        Composition.objects.filter(pk=composition.pk).update(published_as=module.current)
        return module

    return become


@pytest.fixture
def capitals(ask, publish):
    """What Alice's composition of these examples became."""
    return publish(ask(), "capitals")


def names(composition):
    return set(composition.modules.values_list("name", flat=True))


def body(shots, **more):
    pairs = [{"input": pair.input, "output": pair.output} for pair in shots]
    return {"name": "Fruit", "base": "tests/tiny", "method": "exact", "examples": pairs} | more


@pytest.mark.parametrize("selection", ["all", "screen:20", "random:3"])
def test_again_with_its_own_examples_leaves_it_out_however_modules_are_picked(ask, capitals, selection):
    assert names(ask(selection=selection)) == LIBRARY
    assert names(ask(selection=selection.replace("3", "4"), examples=OTHER)) == LIBRARY | {"alice/capitals"}


def test_it_is_left_out_too_where_only_some_examples_are_the_same_or_are_measured_on(ask, capitals):
    assert names(ask(examples=[*OTHER, SHOTS[0]])) == LIBRARY
    assert names(ask(examples=OTHER, held_out=[*HELD_OUT, SHOTS[2]])) == LIBRARY
    same_input = [Example(SHOTS[0].input, "another output")]
    assert names(ask(examples=same_input)) == LIBRARY | {"alice/capitals"}


def test_so_is_what_was_made_from_it_in_turn(ask, capitals, publish, alice):
    further = publish(ask(examples=OTHER), "further")
    lineage_record(version=further.current, parents=[(capitals.current, 0.5)])
    last = make_module(alice, "last", seed=3)
    lineage_record(version=last.current, parents=[(further.current, 1.0)])
    assert names(ask()) == LIBRARY


def test_choose_for_me_and_the_candidates_leave_it_out(capitals, alice, base, monkeypatch, api_of):
    asked = (base, "exact", "capitals", SHOTS)
    assert {each.fit.name for each in rank_modules(*asked, owner=alice)} == LIBRARY
    monkeypatch.setattr("composer.matching.ranking.QUICK_MAX", 3)
    asked = body(SHOTS, selection="auto", level="quick")
    assert names(Composition.objects.get(pk=api_of(alice).post(ADDRESS, asked).json()["id"])) == LIBRARY
    told = api_of(alice).post(f"{ADDRESS}/candidates", body(SHOTS)).json()
    assert {each["name"] for each in told} == LIBRARY
    estimate = api_of(alice).post(f"{ADDRESS}/estimate", body(SHOTS)).json()
    assert (estimate["n_modules"], estimate["left_out"]) == (3, ["alice/capitals"])
    assert api_of(alice).post(f"{ADDRESS}/estimate", body(OTHER)).json()["left_out"] == []


def test_named_by_hand_it_takes_part_and_every_place_warns(done, capitals, alice, api_of, browser_of):
    warning = leakage_text(["alice/capitals"])
    answer = api_of(alice).post(ADDRESS, body(SHOTS, modules=["alice/capitals", "bob/first"]))
    assert answer.status_code == 202
    assert {module["name"] for module in answer.json()["modules"]} == {"alice/capitals", "bob/first"}
    assert answer.json()["warnings"] == [warning]
    assert api_of(alice).post(ADDRESS, body(SHOTS)).json()["warnings"] == []
    composition = done(selection="chosen", modules=["alice/capitals"])
    assert leaking_modules(composition) == ["alice/capitals"]
    assert warning in browser_of(alice).get(composition.get_absolute_url()).content.decode()
    usual = done()
    assert "for that alone" not in browser_of(alice).get(usual.get_absolute_url()).content.decode()


def test_the_reader_of_a_private_link_is_warned_without_its_name(done, capitals, alice, client, browser_of):
    composition = done(selection="chosen", modules=["alice/capitals"])
    browser_of(alice).post(f"{composition.get_absolute_url()}share/", {})
    page = client.get(composition.share.get_absolute_url()).content.decode()
    assert "One of its modules was made from some of these examples, and it fits them" in page


def test_the_form_says_what_is_left_out_and_warns_when_it_is_named(ask, capitals, alice, browser_of):
    earlier = Composition.objects.get()
    page = browser_of(alice).get(f"{NEW}?again={earlier.pk}").content.decode()
    assert (
        'Left out, as they were made from some of these examples: <a class="mono" href="/alice/capitals">'
        in collapsed(page)
    )
    rows = {
        "shots_input": [pair.input for pair in SHOTS],
        "shots_output": [pair.output for pair in SHOTS],
        "form_key": "k",
        "base": "tests/tiny",
        "selection": "chosen",
        "modules": ["alice/capitals"],
    }
    fragments = browser_of(alice).post("/compositions/drafts/", rows).content.decode()
    assert leakage_text(["alice/capitals"]) in fragments
    assert "Left out, as" not in fragments
    fragments = browser_of(alice).post("/compositions/drafts/", rows | {"selection": "auto"}).content.decode()
    assert "for that alone" not in fragments
    assert "Left out, as" in fragments


def test_nobody_finds_out_by_guessing_what_another_person_composed_from(capitals, charlie, api_of):
    told = api_of(charlie).post(f"{ADDRESS}/estimate", body(SHOTS)).json()
    assert (told["n_modules"], told["left_out"]) == (4, [])


def test_ready_made_examples_are_no_secret(ask, publish, charlie, base, demo_bundle):
    task = demo_tasks()[0]
    publish(ask(examples=task.shots, held_out=()), "ready")
    asked = {
        "name": "x",
        "base": base.name,
        "method": "exact",
        "budget": 9,
        "seed": 1,
        "examples": task.shots,
    }
    assert names(composition_request(owner=charlie, **asked)) == LIBRARY


def test_where_nothing_else_fits_the_refusal_says_so(ask, capitals, modules):
    for module in modules:
        type(module).objects.filter(pk=module.pk).update(private=True)
    with pytest.raises(Refusal) as refused:
        ask()
    assert refused.value.code == "no_compatible_module"
    assert "made from some of these examples" in refused.value.message


def test_it_is_left_out_too_where_its_examples_are_written_in_another_normal_form(ask, publish):
    publish(ask(examples=[Example("caf\u00e9", "CAF\u00c9")]), "capitals")
    assert names(ask(examples=[Example("cafe\u0301", "CAFE\u0301")])) == LIBRARY
