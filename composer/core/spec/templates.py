"""The template that turns an example's input into the prompt that a base model reads.

A template is text with {input} in it, or the word chat. With chat, the base model's own chat template
is used, and the input is the one message of the user.
"""

from collections.abc import Iterable

from composer.core.spec.errors import InvalidJobError

INPUT = "{input}"
CHAT = "chat"


def require_template(template: object) -> str:
    """Return the template.

    Raises:
        InvalidJobError: it is neither text with {input} nor the word chat.
    """
    if isinstance(template, str) and (template == CHAT or INPUT in template):
        return template
    raise InvalidJobError(
        "The template must contain {input}, where the example's input goes, or be the word chat."
    )


def shared_template(templates: Iterable[str | None]) -> str:
    """Return the template that all modules share; "{input}" if they differ or if it is unknown."""
    found = set(templates)
    (only,) = found if len(found) == 1 else (None,)
    return only or INPUT


def warning_of_gluing(template: str, *, has_chat: bool) -> str:
    """Return a warning if nothing parts prompt and answer for a decoder-only base, else the empty text.

    Args:
        template: of the prompts.
        has_chat: whether the base model has a chat template, which would be the better choice.
    """
    if template == CHAT or template[-1:].isspace():
        return ""
    instead = repr(CHAT) if has_chat else f"{template!r} and a line break"
    return (
        f"The template {template!r} puts no white space between prompt and answer, so this base reads both "
        f"as one word. Unless the modules were trained that way, use the template {instead}."
    )


def fill_template(template: str, text: str) -> str:
    """Return the prompt: the template with every {input} replaced by the text.

    Other braces of the template stay as they are, because it is not a format string.
    """
    return template.replace(INPUT, text)
