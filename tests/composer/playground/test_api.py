"""Asking and reading by a program."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from composer.playground.models import TryOut
from composer.playground.services import INPUT_CHARACTERS_MAX
from tests.factories import make_module

ADDRESS = "/api/v1/modules/bob/upper/try"


pytestmark = pytest.mark.usefixtures("queued_ids")


def test_a_question_is_accepted_with_the_address_of_its_answer(api_of, alice, module, run):
    asked = api_of(alice).post(ADDRESS, {"input": " apple", "template": "Say{input}", "max_new_tokens": 5})
    assert asked.status_code == 202
    assert (asked.data["status"], asked.data["ahead"], asked.data["answer"]) == ("queued", 0, None)
    run(TryOut.objects.get())
    answer = api_of(alice, scope="read").get(asked.headers["Location"])
    assert answer.status_code == 200
    assert answer.data["is_finished"]
    assert answer.data["prompt"] == "Say apple"
    assert answer.data["base_answer"]["text"] == "plain"
    assert answer.data["answer"]["tokens"] == 1
    assert answer.data["error"] is None


def test_an_answer_that_comes_quickly_comes_at_once(api_of, alice, module, run, monkeypatch):
    monkeypatch.setattr("composer.playground.api.tryout_wait", lambda tryout, seconds: run(tryout))
    asked = api_of(alice).post(ADDRESS, {"input": "apple"})
    assert asked.status_code == 200
    assert asked.data["status"] == "done"


def test_a_question_without_an_answer_says_why(api_of, alice, module, run):
    asked = api_of(alice).post(ADDRESS, {"input": "crash"})
    run(TryOut.objects.get())
    error = api_of(alice).get(asked.headers["Location"]).data["error"]
    assert error["code"] == "crashed"
    assert "crashed over this question" in error["message"]


def test_a_question_that_no_worker_picks_up_says_so(api_of, alice, module):
    asked = api_of(alice).post(ADDRESS, {"input": "apple"})
    assert asked.data["missing_worker"] is None
    TryOut.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    said = api_of(alice).get(asked.headers["Location"]).data["missing_worker"]
    assert said.startswith("Nobody has picked your question up yet")


def test_a_busy_site_answers_503_with_a_time_to_come_back(api_of, alice, bob, module, settings):
    settings.HUB_TRY_WAITING_MAX = 1
    assert api_of(bob).post(ADDRESS, {"input": "apple"}).status_code == 202
    busy = api_of(alice).post(ADDRESS, {"input": "apple"})
    assert busy.status_code == 503
    assert busy.data["error"]["code"] == "busy"
    assert int(busy.headers["Retry-After"]) > 0


def test_asking_too_often_answers_429_with_a_time_to_come_back(api_of, alice, module, settings):
    settings.HUB_TRY_PER_MINUTE = 1
    client = api_of(alice)
    answered = client.post(ADDRESS, {"input": "apple"})
    assert answered.headers["RateLimit-Policy"] == '"tries";q=1;w=60'
    assert answered.headers["RateLimit"] in {'"tries";r=0;t=60', '"tries";r=0;t=59'}
    refused = client.post(ADDRESS, {"input": "apple"})
    assert (refused.status_code, refused.data["error"]["code"]) == (429, "too_often")
    assert 0 < int(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"input": "a" * (INPUT_CHARACTERS_MAX + 1)}, 422),
        ({"input": "a", "template": "none"}, 422),
        ({"input": "a", "max_new_tokens": 1000}, 422),
        ({"input": ["a"]}, 400),
    ],
)
def test_what_cannot_be_asked_is_refused_in_the_apis_shape(api_of, alice, module, body, status):
    refused = api_of(alice).post(ADDRESS, body)
    assert refused.status_code == status
    assert refused.data["error"]["message"]
    assert not TryOut.objects.exists()


def test_a_private_module_and_an_answer_exist_for_their_people_only(api_of, alice, bob, charlie, base):
    make_module(bob, "secret", private=True)
    address = "/api/v1/modules/bob/secret/try"
    assert api_of(charlie).post(address, {"input": "apple"}).status_code == 404
    asked = api_of(bob).post(address, {"input": "apple"})
    assert asked.status_code == 202
    assert api_of(charlie).get(asked.headers["Location"]).status_code == 404
    assert api_of(bob).get(asked.headers["Location"]).status_code == 200


def test_a_program_needs_a_token_that_may_write(api_of, alice, module, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 0
    assert APIClient().post(ADDRESS, {"input": "apple"}).status_code == 401
    assert api_of(alice, scope="read").post(ADDRESS, {"input": "apple"}).status_code == 403


def test_an_earlier_version_can_be_asked_and_one_that_never_was_cannot(api_of, alice, module):
    client = api_of(alice)
    assert client.post(f"{ADDRESS}?revision=v1", {"input": "apple"}).status_code == 202
    assert TryOut.objects.get().version == module.current
    assert client.post(f"{ADDRESS}?revision=v9", {"input": "apple"}).status_code == 404


def test_the_schema_describes_asking_and_answering(client):
    schema = client.get("/api/v1/schema", headers={"Accept": "application/json"}).json()
    asking = schema["paths"]["/api/v1/modules/{namespace}/{name}/try"]["post"]
    assert {"200", "202", "404", "409", "422", "429", "503"} <= set(asking["responses"])
    assert "/api/v1/compositions/{composition_id}/try" in schema["paths"]
    assert "/api/v1/tryouts/{id}" in schema["paths"] or "/api/v1/tryouts/{tryout_id}" in schema["paths"]


def test_a_program_without_an_account_tries_modules_as_visitors_do(api_of, alice, module, run, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 1
    visitor, elsewhere = APIClient(), APIClient(REMOTE_ADDR="192.0.2.7")
    asked = visitor.post(ADDRESS, {"input": "apple"})
    assert (asked.status_code, asked.headers["RateLimit-Policy"]) == (202, '"tries";q=1;w=60')
    run(TryOut.objects.get())
    address = asked.headers["Location"]
    assert visitor.get(address).data["answer"]["tokens"] == 1
    for other in (elsewhere, api_of(alice)):
        assert other.get(address).status_code == 404
    refused = visitor.post(ADDRESS, {"input": "apple"})
    assert (refused.status_code, refused.data["error"]["code"]) == (429, "too_often")
    assert elsewhere.post(ADDRESS, {"input": "apple"}).status_code == 202
