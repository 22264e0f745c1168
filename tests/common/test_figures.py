"""How pages write figures: with their units, and with a real minus sign."""

import pytest
from django.template import engines

from hub_site.common.figures import figures, unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("44 % (35 to 54 %); 7.8 s, 2.5 MB.", "44\u00a0% (35 to 54\u00a0%); 7.8\u00a0s, 2.5\u00a0MB."),
        ("7–15 s, about 3 min", "7–15\u00a0s, about 3\u00a0min"),
        ("5 shots of 2 seconds", "5 shots of 2 seconds"),  # words, which may stand on two lines
        (-0.5, "\u22120.5"),
        ("from -0.18 to (-0.05)", "from \u22120.18 to (\u22120.05)"),
        ("flan-t5-large, 62-79, x-3, well-known", "flan-t5-large, 62-79, x-3, well-known"),
    ],
)
def test_a_figure_keeps_its_unit_and_a_minus_is_one(text, shown):
    assert figures(text) == shown


def test_a_unit_follows_its_figure():
    assert unit("-1.5", "nats") == "\u22121.5\u00a0nats"


def test_what_a_stranger_wrote_is_still_escaped():
    page = engines["django"].from_string("{{ text|figures }} {{ text|unit:'s' }}")
    assert "<b>" not in page.render({"text": "<b>5 s"})
