"""How an example's input becomes the prompt that a base model reads.

A template is text with {input} in it, or the word chat: then the base's own chat template is used,
with the input as the one message of a user.
"""

from collections.abc import Iterable

from composer.core.spec.errors import InvalidJobError

INPUT = "{input}"
CHAT = "chat"


def require_template(template: object) -> str:
    """The template, if it is one.

    Raises:
        InvalidJobError: it has no place for the input.
    """
    if isinstance(template, str) and (template == CHAT or INPUT in template):
        return template
    raise InvalidJobError(
        "The template must contain {input}, where the example's input goes, or be the word chat."
    )


def shared_template(templates: Iterable[str | None]) -> str:
    """The template that all modules of a composition were trained with, else the bare input."""
    found = set(templates)
    (only,) = found if len(found) == 1 else (None,)
    return only or INPUT


def fill_template(template: str, text: str) -> str:
    """The prompt; the template is replaced, never formatted."""
    return template.replace(INPUT, text)
