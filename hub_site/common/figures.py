"""How pages write a figure: never parted from its unit at a line's end, and with a real minus sign.

What leaves the site as a file, a mail or an answer of the API stays as plain as it was.
"""

import re

from django import template

register = template.Library()

NO_BREAK_SPACE, MINUS = "\u00a0", "\u2212"
UNITS = ("%", "s", "min", "h", "bytes", "kB", "MB", "GB", "nats", "point", "points")
BEFORE_A_UNIT = re.compile(rf"(?<=\d) (?=(?:{'|'.join(UNITS)})(?!\w))")
NEGATIVE = re.compile(r"(?<![^\s(>])-(?=\d)")  # not the hyphen of a name or a range


@register.filter(is_safe=True)
def figures(text: object) -> str:
    """A sentence, or a number as it is to be shown; words stay as they are."""
    return NEGATIVE.sub(MINUS, BEFORE_A_UNIT.sub(NO_BREAK_SPACE, str(text)))


@register.filter
def unit(figure: object, name: str) -> str:
    """`{{ seconds|floatformat:1|unit:"s" }}`"""
    return f"{figures(figure)}{NO_BREAK_SPACE}{name}"
