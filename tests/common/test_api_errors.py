import pytest
from rest_framework.exceptions import ErrorDetail, ValidationError

from hub_site.common.api_errors import describe, field_messages


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"name": ["This field is required."]}, "name: This field is required."),
        ({"examples": [{}, {"input": ["Too long."]}]}, "examples.1.input: Too long."),
        (["The whole is wrong."], "The whole is wrong."),
        ({"non_field_errors": ["These do not fit."]}, "These do not fit."),
    ],
)
def test_the_message_names_the_place_of_the_first_mistake(detail, message):
    assert describe(ValidationError(detail))[:2] == ("invalid", message)


def test_every_mistake_is_told_at_its_own_place():
    detail = {"shots": {0: {"output": [ErrorDetail("Empty.")]}}, "seed": [ErrorDetail("Too large.")]}
    assert field_messages(detail) == {"shots.0.output": ["Empty."], "seed": ["Too large."]}
