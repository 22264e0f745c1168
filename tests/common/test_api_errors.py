import pytest
from rest_framework.exceptions import ErrorDetail, ValidationError

from hub_site.common.api_errors import describe, field_messages


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"name": ["This field is required."]}, "name: This field is required."),
        ({"examples": [{}, {"input": ["Too long."]}]}, "examples.1.input: Too long."),
        ({"held_out": {"0": {"non_field_errors": ["Not this."]}}}, "held_out.0: Not this."),
        (["The whole is wrong."], "The whole is wrong."),
        ({"non_field_errors": ["These do not fit."]}, "These do not fit."),
    ],
)
def test_the_message_names_the_place_of_the_first_mistake(detail, message):
    assert describe(ValidationError(detail))[:2] == ("invalid", message)


def test_every_mistake_is_told_at_its_own_place():
    detail = {"shots": {0: {"output": [ErrorDetail("Empty.")]}}, "seed": [ErrorDetail("Too large.")]}
    assert field_messages(detail) == {"shots.0.output": ["Empty."], "seed": ["Too large."]}


@pytest.mark.parametrize(
    ("address", "method", "status"),
    [
        ("/api/v1/schema", "post", 405),
        ("/api/docs/", "post", 405),
        ("/api/v1/nowhere", "get", 404),
        ("/api/v1/modules/a/%00", "get", 404),
        ("/api/models/a/%00", "get", 404),
        ("/api/nowhere", "get", 404),
    ],
)
def test_every_error_under_api_is_json(client, db, address, method, status):
    answer = getattr(client, method)(address)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (
        isinstance(error, str) if not address.startswith("/api/v1/") else error["code"] and error["message"]
    )


def test_a_host_that_is_not_ours_is_told_in_json(client):
    answer = client.get("/api/v1/modules", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
