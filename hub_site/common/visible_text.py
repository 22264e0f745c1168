"""Text in which white space counts, with marks that can be seen."""

import re

LINE_BREAK, SPACE = "↵", "␣"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line breaks


def escaped(text: str) -> str:
    """The text with its control characters as escapes, such as \\x01: no font has a sign for them."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def visible(text: str) -> str:
    """The text with its line breaks, its control characters and the spaces at both ends as marks."""
    text = escaped(text)
    inner = text.strip(" ")
    begin, end = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    shown = f"{SPACE * begin}{inner}{SPACE * end}" if inner else SPACE * len(text)
    return shown.replace("\n", f"{LINE_BREAK}\n")
