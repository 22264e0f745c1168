"""What a prompt template is: text with {input} where an example's input goes, or the word chat."""

from collections.abc import Callable

from modules_registry.core.strict_json import quote_value

KEY = "prompt_template"  # in adapter_config.json and in the front matter of a card
INPUT = "{input}"
BARE_INPUT = {"input": ""}  # how YAML reads {input} without quotes: as a mapping
CHAT = "chat"  # the chat template of the base model, with the input as the one message of a user
LENGTH_MAX = 2000
# Inputs that differ from the first one at their beginning, in their middle and at their end.
UNLIKE_INPUTS = ("one two three", "six two three", "one six three", "one two six")


def is_prompt_template(value: object) -> bool:
    """Whether this is a template that can be kept."""
    return (
        isinstance(value, str)
        and len(value) <= LENGTH_MAX
        and "\0" not in value
        and (value == CHAT or INPUT in value)
    )


def hides_input(prompt_of: Callable[[str], str]) -> bool:
    """Whether different inputs give the same prompt, so that no answer can depend on what was asked.

    A text with {input} shows every input. A chat template is a program, and may show none or a part.

    Args:
        prompt_of: makes the prompt of an input.
    """
    return len(set(map(prompt_of, UNLIKE_INPUTS))) < len(UNLIKE_INPUTS)


def unread_statement(said: object, file: str) -> str:
    """Why what a file states is no template, a sentence without its end; empty if it is one or nothing."""
    if said in (None, "", BARE_INPUT) or is_prompt_template(said):
        return ""
    return f"the {KEY} in {file} is neither text with {INPUT} nor the word {CHAT}: {quote_value(said)}"
