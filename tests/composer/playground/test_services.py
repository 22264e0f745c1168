"""What may be asked, how often, and by whom."""

from datetime import timedelta

import pytest
from django.utils import timezone

from composer.playground import runner, selectors
from composer.playground.models import GIVEN_UP_AFTER, TryOut
from composer.playground.selectors import Requester
from composer.playground.services import INPUT_CHARACTERS_MAX, UNFINISHED_MAX, tryout_watch
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.core.cards import check_card
from tests.factories import config_file, make_module, weights_file

VISITOR = Requester(None, "a session", "an address")


def finish_all() -> None:
    TryOut.objects.update(status=Status.DONE)


def test_the_queue_is_rung_with_the_id_once_the_row_is_there(
    ask_it, queued_ids, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        tryout = ask_it()
        assert queued_ids == []
    assert queued_ids == [str(tryout.pk)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text": "  "}, "input"),
        ({"text": "a" * (INPUT_CHARACTERS_MAX + 1)}, "input"),
        ({"text": "\ud800"}, "input"),
        ({"text": "a\x00b"}, "input"),
        ({"template": "no place"}, "template"),
        ({"template": "{input}" + "a" * 2000}, "template"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 257}, "max_new_tokens"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_anything_is_stored(ask_it, changes, field):
    with pytest.raises(Refusal) as caught:
        ask_it(**changes)
    assert caught.value.status == 422
    assert list(caught.value.fields) == [field]
    assert not TryOut.objects.exists()


def test_a_module_whose_base_is_not_in_the_library_says_so(ask_it, bob):
    stranger = make_module(
        bob,
        "stranger",
        config_file=config_file(base_model_name_or_path="far/away"),
        weights_file=weights_file(),
    )
    with pytest.raises(Refusal, match="far/away is not in this site's library") as caught:
        ask_it(target=selectors.target_of_version(stranger.current))
    assert (caught.value.code, caught.value.status) == ("not_composable", 409)


def test_nobody_may_have_many_questions_waiting(ask_it, bob):
    for _ in range(UNFINISHED_MAX):
        ask_it()
    with pytest.raises(Refusal) as caught:
        ask_it()
    assert (caught.value.code, caught.value.status) == ("too_many_waiting", 429)
    ask_it(requester=Requester(bob))


def test_beyond_so_many_a_minute_one_is_told_when_to_ask_again(ask_it, settings, bob):
    settings.HUB_TRY_PER_MINUTE = 2
    for _ in range(2):
        ask_it()
        finish_all()
    for n, tryout in enumerate(TryOut.objects.all()):  # those of one time were asked together
        TryOut.objects.filter(pk=tryout.pk).update(
            created_at=timezone.now() - timedelta(seconds=20, milliseconds=n)
        )
    with pytest.raises(Refusal, match="2 times within a minute") as caught:
        ask_it()
    assert caught.value.status == 429
    assert 38 <= caught.value.retry_after_s <= 40
    ask_it(requester=Requester(bob))
    TryOut.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    ask_it()


def test_a_visitor_is_counted_by_address_whatever_the_session(ask_it, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 1
    ask_it(requester=VISITOR)
    finish_all()
    with pytest.raises(Refusal, match="With an account you can ask more often"):
        ask_it(requester=Requester(None, "another session", VISITOR.address_hash))
    ask_it(requester=Requester(None, "a session", "another address"))


def test_a_site_may_ask_visitors_to_sign_in(ask_it, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 0
    with pytest.raises(Refusal) as caught:
        ask_it(requester=VISITOR)
    assert (caught.value.code, caught.value.status) == ("sign_in_first", 401)
    ask_it()


def test_when_too_many_wait_the_site_says_busy_and_when_to_come_back(ask_it, settings, bob, charlie):
    settings.HUB_TRY_WAITING_MAX = 2
    first = ask_it()
    ask_it(requester=Requester(bob))
    with pytest.raises(Refusal, match="Busy: 2 questions wait") as caught:
        ask_it(requester=Requester(charlie))
    assert (caught.value.code, caught.value.status) == ("busy", 503)
    assert caught.value.retry_after_s
    TryOut.objects.filter(pk=first.pk).update(seen_at=timezone.now() - timedelta(minutes=1))  # left
    ask_it(requester=Requester(charlie))


def test_a_full_queue_that_nobody_answers_does_not_call_itself_busy(ask_it, settings, bob):
    settings.HUB_TRY_WAITING_MAX = 1
    ask_it()
    TryOut.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    with pytest.raises(Refusal, match="seems to be away") as caught:
        ask_it(requester=Requester(bob))
    assert (caught.value.code, caught.value.status) == ("no_worker", 503)


def test_each_knows_how_many_come_before(ask_it, bob, charlie):
    asked = [ask_it(), ask_it(requester=Requester(bob)), ask_it(requester=Requester(charlie))]
    assert [selectors.ahead_of(tryout) for tryout in asked] == [0, 1, 2]


def test_a_question_nobody_picks_up_is_said_to_wait_for_a_worker_and_is_dropped_in_the_end(ask_it, bob):
    tryout = ask_it()
    assert not selectors.is_worker_missing(tryout)
    tryout.created_at = timezone.now() - timedelta(seconds=10)
    assert selectors.is_worker_missing(tryout)
    TryOut.objects.update(created_at=timezone.now() - GIVEN_UP_AFTER)
    answering = ask_it(requester=Requester(bob))
    TryOut.objects.filter(pk=answering.pk).update(status=Status.RUNNING, alive_at=timezone.now())
    tryout_watch(tryout)
    assert tryout.status == Status.QUEUED
    answering.delete()
    tryout_watch(tryout)
    assert (tryout.status, tryout.error_code) == (Status.FAILED, "no_worker")


@pytest.mark.parametrize("skew_s", [-60, 60])
def test_a_machine_s_wrong_clock_drops_no_question_and_ends_none(ask_it, bob, monkeypatch, skew_s):
    now = timezone.now
    waiting, answering = ask_it(), ask_it(requester=Requester(bob))
    TryOut.objects.filter(pk=answering.pk).update(status=Status.RUNNING, alive_at=now(), started_at=now())
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=skew_s))
    late = ask_it()  # by the machine whose clock is wrong
    for tryout in (waiting, answering, late):
        tryout_watch(tryout)
    assert [tryout.status for tryout in (waiting, answering, late)] == ["queued", "running", "queued"]
    assert [selectors.ahead_of(tryout) for tryout in (waiting, answering, late)] == [1, 0, 2]
    assert not selectors.is_worker_missing(late)
    assert not selectors.is_slow(answering)
    assert runner.sweep() == []
    TryOut.objects.filter(pk=waiting.pk).update(created_at=now() - runner.REQUEUE_AFTER)
    assert runner.sweep() == [waiting.pk]
    assert runner.claim(late, is_cold=False)


def test_a_question_is_found_by_whoever_asked_and_by_nobody_else(ask_it, alice, bob):
    of_alice, of_visitor = ask_it(), ask_it(requester=VISITOR)
    assert selectors.tryout_of(Requester(alice), of_alice.pk) == of_alice
    assert selectors.tryout_of(VISITOR, of_visitor.pk) == of_visitor
    for requester, tryout in [
        (Requester(bob), of_alice),
        (VISITOR, of_alice),
        (Requester(alice), of_visitor),
        (Requester(None, "another", VISITOR.address_hash), of_visitor),
        (Requester(None, "", VISITOR.address_hash), of_visitor),
    ]:
        assert selectors.tryout_of(requester, tryout.pk) is None


TABLE = "# Card\n\n| Input | Output |\n|---|---|\n| `plum` | `PLUM` |\n| fig | FIG |\n\ntext\n"
WIDGET = "---\nwidget:\n- text: apple\n  output: {text: APPLE}\n- text: pear\n- {src: picture.png}\n---\n"


def test_examples_come_from_the_cards_widget_or_else_from_its_table():
    both, table = check_card(f"{WIDGET}{TABLE}".encode()), check_card(TABLE.encode())
    assert selectors.examples_of_card(both) == {"apple": "APPLE", "pear": ""}
    assert selectors.examples_of_card(table) == {"plum": "PLUM", "fig": "FIG"}


@pytest.mark.parametrize("widget", ["text", [1, "a", {"text": ["a"]}, {"text": "b" * 500}], {"text": "a"}])
def test_a_card_with_an_odd_widget_has_no_examples(widget):
    assert list(selectors.widget_examples({"widget": widget})) == []
