"""Text in which white space counts, with marks that can be seen."""

LINE_BREAK, SPACE = "↵", "␣"


def visible(text: str) -> str:
    """The text with its line breaks and the spaces at both ends as marks."""
    inner = text.strip(" ")
    begin, end = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    shown = f"{SPACE * begin}{inner}{SPACE * end}" if inner else SPACE * len(text)
    return shown.replace("\n", f"{LINE_BREAK}\n")
