"""Asking for a composition: what is stored, what is refused, and how often."""

import threading

import pytest
from django.db import connection

from composer import selectors
from composer.core.spec.choices import BUDGET_LIMIT, EXAMPLES_LIMIT
from composer.core.spec.examples import Example, require_disjoint
from composer.models import Composition
from composer.run.tasks import wake_worker
from composer.services import composition_cancel, composition_delete
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.services import module_delete, version_add
from tests.composer.conftest import HELD_OUT, SHOTS
from tests.factories import adapter_files, config_file, make_module, weights_file

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker


def refusal_of(ask, **changes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(**changes)
    return caught.value


def names_of(composition) -> list[str]:
    return list(composition.modules.values_list("name", flat=True))


def test_a_request_is_a_queued_row_with_its_examples_and_pinned_modules(ask, modules):
    composition = ask()
    assert composition.status == Status.QUEUED
    assert names_of(composition) == ["bob/first", "bob/fruit", "bob/upper"]
    assert list(composition.examples.values_list("role", "position", "input")) == [
        ("held_out", 0, "fig"),
        ("held_out", 1, "lime"),
        ("shot", 0, "apple"),
        ("shot", 1, "pear"),
        ("shot", 2, "plum"),
    ]
    assert {module.version for module in composition.modules.all()} == {module.current for module in modules}


def test_a_worker_is_woken_once_the_rows_are_committed(ask, wakes, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        ask()
        assert wakes == []
    assert len(wakes) == 1


def test_a_broker_that_is_away_does_not_lose_the_request(
    ask, monkeypatch, django_capture_on_commit_callbacks
):
    def away():
        raise ConnectionError("no broker")

    monkeypatch.setattr(wake_worker, "delay", away)
    with django_capture_on_commit_callbacks(execute=True):
        composition = ask()
    assert Composition.objects.filter(pk=composition.pk, status=Status.QUEUED).exists()


def test_the_same_key_and_request_give_the_same_row(ask, wakes, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        rows = {ask(idempotency_key="k").pk for _ in range(3)}
    assert len(rows) == len(wakes) == 1


def test_the_same_key_with_another_request_is_refused(ask):
    ask(idempotency_key="k")
    refusal = refusal_of(ask, idempotency_key="k", seed=8)
    assert (refusal.code, refusal.status) == ("idempotency_key_reused", 422)


def test_another_owner_may_use_the_same_key(ask, charlie):
    assert ask(idempotency_key="k").pk != ask(idempotency_key="k", owner=charlie).pk


def test_a_retry_finds_its_row_though_a_module_that_it_names_was_deleted(ask, bob, modules):
    named = {"selection": "chosen", "modules": ["bob/first", "bob/upper"], "idempotency_key": "k"}
    first = ask(**named)
    module_delete(editor=bob, module=modules[0])
    assert ask(**named) == first
    assert refusal_of(ask, **named | {"idempotency_key": "another"}).fields.keys() == {"modules"}


@pytest.mark.django_db(transaction=True)
def test_the_same_key_sent_many_times_at_once_is_one_composition(ask):
    made, start = [], threading.Barrier(6)

    def send():
        start.wait()
        made.append(ask(idempotency_key="at once").pk)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert set(made) == {Composition.objects.get().pk}


def test_random_modules_are_drawn_with_the_seed_and_pinned(ask):
    drawn = names_of(ask(selection="random:2"))
    assert len(drawn) == 2
    assert names_of(ask(selection="random:2")) == drawn
    assert any(names_of(ask(selection="random:2", seed=seed)) != drawn for seed in (1, 2))


def test_modules_chosen_by_hand_take_part_in_that_order_and_once(ask, modules):
    composition = ask(selection="chosen", modules=["bob/upper", "bob/first", "bob/upper"])
    assert names_of(composition) == ["bob/upper", "bob/first"]


def test_a_new_version_published_later_does_not_change_what_was_asked(ask, bob, modules):
    composition = ask()
    version_add(author=bob, module=modules[0], **adapter_files(seed=99))
    pinned = composition.modules.get(name="bob/first").version
    assert pinned.number == 1


def test_a_module_deleted_meanwhile_stays_for_the_composition_that_has_it(ask, bob, modules):
    composition = ask()
    module_delete(editor=bob, module=modules[0])
    assert composition.modules.get(name="bob/first").version.files.count() >= 2
    assert "bob/first" not in names_of(ask())


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"method": "magic"}, "unknown_method", "method"),
        ({"method": "lorahub", "search": "adam"}, "unknown_search", "search"),
        ({"budget": 0}, "bad_budget", "budget"),
        ({"budget": BUDGET_LIMIT + 1}, "bad_budget", "budget"),
        ({"seed": -1}, "bad_seed", "seed"),
        ({"name": " "}, "bad_name", "name"),
        ({"name": "a\0b"}, "bad_name", "name"),
        ({"sentence": "x" * 301}, "bad_sentence", "sentence"),
        ({"examples": []}, "no_examples", "examples"),
        (
            {"examples": [Example(str(i), "x") for i in range(EXAMPLES_LIMIT + 1)]},
            "too_many_examples",
            "examples",
        ),
        ({"held_out": [Example(str(i), "x") for i in range(1001)]}, "too_many_held_out", "held_out"),
        ({"held_out": SHOTS[:2]}, "held_out_seen", "held_out"),
        ({"held_out": [Example(" apple", "la pomme")]}, "held_out_seen", "held_out"),
        ({"selection": "random:4"}, "bad_selection", "selection"),
        ({"selection": "random:0"}, "bad_selection", "selection"),
        ({"selection": "best"}, "bad_selection", "selection"),
        ({"selection": "chosen"}, "no_modules", "modules"),
        ({"selection": "chosen", "modules": ["bob/first", "bob/gone"]}, "invalid", "modules"),
        ({"selection": "chosen", "modules": ["no slash"]}, "invalid", "modules"),
        ({"base": "tests/gone"}, "invalid", "base"),
    ],
)
def test_what_cannot_be_done_is_refused_at_its_field_and_leaves_nothing(ask, changes, code, field):
    refusal = refusal_of(ask, **changes)
    assert refusal.code == code
    assert list(refusal.fields) == [field]
    assert Composition.objects.count() == 0


def test_held_out_examples_that_are_also_shots_are_left_out(ask):
    for seen in (SHOTS[0], Example("apple", "la pomme"), Example(" pear ", "PEAR")):
        composition = ask(held_out=[seen, *HELD_OUT])
        assert selectors.held_out_examples(composition) == HELD_OUT
        require_disjoint(selectors.held_out_examples(composition), selectors.few_shot_examples(composition))


def test_a_base_is_not_asked_in_a_chat_template_that_it_does_not_have(ask, base):
    base.chat_prompt = ""
    base.save()
    refusal = refusal_of(ask, template="chat")
    assert (refusal.code, list(refusal.fields)) == ("no_chat_template", ["template"])
    base.chat_prompt = None  # not known: the run decides
    base.save()
    assert ask(template="chat").template == "chat"


def test_without_a_fitting_module_the_request_is_refused(alice, ask, modules, bob):
    for module in modules:
        module_delete(editor=bob, module=module)
    assert refusal_of(ask).code == "no_compatible_module"


def test_modules_of_another_rank_take_part_in_an_exact_sum_only(ask, bob, modules):

    files = {"config_file": config_file(r=4, lora_alpha=8), "weights_file": weights_file(rank=4)}
    make_module(bob, "wide", **files)
    assert "bob/wide" in names_of(ask(method="exact"))
    assert "bob/wide" not in names_of(ask(method="lorahub"))
    chosen = ["bob/wide", *(f"bob/{module.name}" for module in modules)]
    refusal = refusal_of(ask, method="lorahub", selection="chosen", modules=chosen)
    assert refusal.code == "modules_do_not_match"
    assert "bob/wide: Its rank is 4; the others have 2." in refusal.fields["modules"]


def test_one_owner_s_queue_is_bounded_and_has_room_again_when_one_ends(ask, alice, charlie, settings):
    settings.HUB_COMPOSITIONS_UNFINISHED_MAX = 2
    waiting = [ask() for _ in range(2)]
    refusal = refusal_of(ask)
    assert (refusal.status, "Cancel one, or wait for one to end" in refusal.message) == (429, True)
    assert ask(owner=charlie)
    composition_cancel(owner=alice, composition_id=waiting[0].pk)
    assert ask()


def test_a_running_composition_cannot_be_deleted_and_a_cancelled_one_can(ask, alice):
    composition = ask()
    with pytest.raises(Refusal) as caught:
        composition_delete(owner=alice, composition_id=composition.pk)
    assert caught.value.status == 409
    composition_cancel(owner=alice, composition_id=composition.pk)
    composition_delete(owner=alice, composition_id=composition.pk)
    assert Composition.objects.count() == 0


def test_a_stranger_can_neither_cancel_nor_delete(ask, charlie):
    composition = ask()
    for action in (composition_cancel, composition_delete):
        with pytest.raises(Refusal) as caught:
            action(owner=charlie, composition_id=composition.pk)
        assert caught.value.status == 404
    composition.refresh_from_db()
    assert composition.status == Status.QUEUED
