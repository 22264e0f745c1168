"""The box on a page: by htmx, and without any script."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from composer.playground.models import TryOut
from composer.playground.selectors import NOT_PICKED_UP
from hub_site.jobs.models import Status
from tests.composer.conftest import SHOTS
from tests.factories import card_file, config_file, make_module, weights_file
from tests.pages.test_pages import require_calm

ADDRESS = "/try/modules/bob/upper/v1/"
HTMX = {"HX-Request": "true"}
CARD = "# Upper\n\n| input | output |\n|---|---|\n| `<apple>` | `APPLE` |\n"


pytestmark = pytest.mark.usefixtures("queued_ids")


@pytest.fixture
def with_card(base, bob):
    return make_module(bob, "upper", card_file=card_file(CARD))


def text_of(answer) -> str:
    return answer.content.decode()


def test_a_modules_page_brings_the_box_by_its_address(client, module):
    page = text_of(client.get("/bob/upper"))
    assert f'hx-get="{ADDRESS}"' in page
    assert f'href="{ADDRESS}"' in page


def test_a_report_brings_the_box_by_its_address(browser_of, alice, done):
    composition = done()
    page = text_of(browser_of(alice).get(f"/compositions/{composition.pk}/"))
    assert f'hx-get="/try/compositions/{composition.pk}/"' in page


def test_the_box_is_a_fragment_for_htmx_and_a_page_of_its_own_without(client, module):
    fragment = text_of(client.get(ADDRESS, headers=HTMX))
    assert "<html" not in fragment
    assert 'name="input"' in fragment
    page = text_of(client.get(ADDRESS))
    require_calm(page)
    assert 'href="/bob/upper"' in page


def test_the_cards_examples_are_offered_and_one_is_in_the_box(client, with_card):
    fragment = text_of(client.get(ADDRESS, headers=HTMX))
    assert 'value="&lt;apple&gt;"' in fragment
    assert "<apple>" not in fragment


def test_a_visitor_asks_waits_and_reads_both_answers(client, module, run):
    waiting = text_of(client.post(ADDRESS, {"input": "<b>", "template": "Say {input}"}, headers=HTMX))
    tryout = TryOut.objects.get()
    assert f'hx-get="/try/{tryout.pk}/?known=queued-0"' in waiting
    assert client.get(f"/try/{tryout.pk}/?known=queued-0", headers=HTMX).status_code == 204
    run(tryout)
    answer = text_of(client.get(f"/try/{tryout.pk}/?known=queued-0", headers=HTMX))
    assert "hx-get" not in answer
    assert "plain" in answer
    assert "Say &lt;b&gt;" in answer
    assert "<b>" not in answer
    assert Client().get(f"/try/{tryout.pk}/").status_code == 404


def test_without_scripts_the_answer_has_a_page_that_comes_again_by_itself(client, module, run):
    asked = client.post(ADDRESS, {"input": "apple"})
    tryout = TryOut.objects.get()
    assert asked.headers["Location"] == f"/try/{tryout.pk}/"
    assert 'http-equiv="refresh"' in text_of(client.get(asked.headers["Location"]))
    run(tryout)
    page = text_of(client.get(asked.headers["Location"]))
    require_calm(page)
    assert 'http-equiv="refresh"' not in page
    assert "plain" in page
    assert "apple</textarea>" in page


def test_an_examples_button_asks_the_example_and_shows_it_in_the_box(client, with_card, run):
    answer = text_of(client.post(ADDRESS, {"input": "", "example": "<apple>"}, headers=HTMX))
    assert TryOut.objects.get().input == "<apple>"
    assert 'id="try_input" hx-swap-oob="true">&lt;apple&gt;</textarea>' in answer
    run(TryOut.objects.get())
    assert "Expected:" in text_of(client.get(f"/try/{TryOut.objects.get().pk}/", headers=HTMX))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"input": ""}, "Enter an input."),
        ({"input": "a" * 4001}, "at most 4,000 are read"),
        ({"input": "a", "max_new_tokens": "many"}, "whole number"),
        ({"input": "a", "template": "none"}, "must contain {input}"),
    ],
)
def test_what_cannot_be_asked_is_said_where_it_was_asked(client, module, typed, words):
    assert words in text_of(client.post(ADDRESS, typed, headers=HTMX))
    page = client.post(ADDRESS, typed)
    assert page.status_code == 422
    assert words in text_of(page)
    require_calm(text_of(page))


def test_busy_is_said_in_a_sentence_and_to_programs_by_its_status(
    client, browser_of, alice, module, settings
):
    settings.HUB_TRY_WAITING_MAX = 1
    client.post(ADDRESS, {"input": "apple"})
    busy = browser_of(alice).post(ADDRESS, {"input": "apple"}, headers=HTMX)
    assert busy.status_code == 200
    assert "Busy: 1 question waits" in text_of(busy)
    assert busy.headers["HX-Retarget"] == "#try-refusal"  # an answer that is waited for stays where it is
    page = browser_of(alice).post(ADDRESS, {"input": "apple"})
    assert (page.status_code, page.headers["Retry-After"]) == (503, "10")


def test_how_many_come_before_is_said(client, browser_of, alice, module):
    client.post(ADDRESS, {"input": "apple"})
    assert "1 ahead in queue" in text_of(browser_of(alice).post(ADDRESS, {"input": "pear"}, headers=HTMX))


def test_a_worker_that_is_away_is_said_to_be(client, module):
    client.post(ADDRESS, {"input": "apple"})
    TryOut.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    assert NOT_PICKED_UP in text_of(
        client.get(f"/try/{TryOut.objects.get().pk}/?known=queued-0", headers=HTMX)
    )


def test_an_answer_that_takes_long_says_when_it_is_stopped(client, module, settings):
    settings.HUB_TRY_ANSWER_S = 17
    client.post(ADDRESS, {"input": "apple"})
    now = timezone.now()
    TryOut.objects.update(status=Status.RUNNING, started_at=now, alive_at=now)
    address = f"/try/{TryOut.objects.get().pk}/?known=running"
    assert client.get(address, headers=HTMX).status_code == 204  # nothing new
    TryOut.objects.update(started_at=now - timedelta(seconds=20))
    assert "have 17 s each" in text_of(client.get(address, headers=HTMX))


def test_a_base_that_is_loaded_first_is_said_to_be(client, module):
    client.post(ADDRESS, {"input": "apple"})
    TryOut.objects.update(status=Status.RUNNING, is_cold=True, alive_at=timezone.now())
    assert "Loading the base model first" in text_of(
        client.get(f"/try/{TryOut.objects.get().pk}/", headers=HTMX)
    )


def test_a_failure_is_said_in_its_sentence(client, module, run):
    client.post(ADDRESS, {"input": "crash"})
    tryout = run(TryOut.objects.get())
    assert tryout.error_message in text_of(client.get(f"/try/{tryout.pk}/", headers=HTMX))


def test_a_module_without_its_base_here_says_why_instead_of_a_box(client, bob, db):
    make_module(
        bob, "upper", config_file=config_file(base_model_name_or_path="far/away"), weights_file=weights_file()
    )
    fragment = text_of(client.get(ADDRESS, headers=HTMX))
    assert "far/away is not in this site" in fragment
    assert "<form" not in fragment
    assert client.post(ADDRESS, {"input": "apple"}).status_code == 409


def test_a_site_without_visitors_questions_asks_them_to_sign_in(client, module, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 0
    fragment = text_of(client.get(ADDRESS, headers=HTMX))
    assert '<a href="/accounts/login/?next=/bob/upper%23try">Sign in</a>' in fragment
    assert "<form" not in fragment
    assert client.post(ADDRESS, {"input": "apple"}).status_code == 401


def test_only_a_question_that_is_accepted_gives_a_visitor_a_session(client, module):
    client.get(ADDRESS, headers=HTMX)
    client.post(ADDRESS, {"input": ""}, headers=HTMX)
    assert "sessionid" not in client.cookies
    client.post(ADDRESS, {"input": "apple"})
    assert "sessionid" in client.cookies


def test_a_private_module_is_tried_by_its_people_only(client, browser_of, bob, charlie, base):
    make_module(bob, "secret", private=True)
    address = "/try/modules/bob/secret/v1/"
    for stranger in (client, browser_of(charlie)):
        assert stranger.get(address, headers=HTMX).status_code == 404
        assert stranger.post(address, {"input": "apple"}).status_code == 404
    assert browser_of(bob).get(address, headers=HTMX).status_code == 200


def test_a_composition_answers_its_owner_in_its_own_template(client, browser_of, alice, bob, done, run):
    composition = done(template="Q: {input}")
    address = f"/try/compositions/{composition.pk}/"
    assert client.get(address).status_code == 404
    assert browser_of(bob).post(address, {"input": "fig"}).status_code == 404
    fragment = text_of(browser_of(alice).get(address, headers=HTMX))
    assert 'value="fig"' in fragment  # held out, so it says more than what it was made from
    assert SHOTS[0].input not in fragment
    browser_of(alice).post(address, {"example": "fig"}, headers=HTMX)
    tryout = run(TryOut.objects.get())
    assert tryout.result["prompt"] == "Q: fig"
    assert "FIG" in text_of(browser_of(alice).get(f"/try/{tryout.pk}/", headers=HTMX))


def test_an_unfinished_composition_has_nothing_to_try(browser_of, alice, ask):
    composition = ask()
    assert browser_of(alice).get(f"/try/compositions/{composition.pk}/").status_code == 404
