"""What a prompt template is: text with {input} where an example's input goes, or the word chat."""

from modules_registry.core.strict_json import quote_value

KEY = "prompt_template"  # in adapter_config.json and in the front matter of a card
INPUT = "{input}"
BARE_INPUT = {"input": ""}  # how YAML reads {input} without quotes: as a mapping
CHAT = "chat"  # the chat template of the base model, with the input as the one message of a user
LENGTH_MAX = 2000


def is_prompt_template(value: object) -> bool:
    """Whether this is a template that can be kept."""
    return (
        isinstance(value, str)
        and len(value) <= LENGTH_MAX
        and "\0" not in value
        and (value == CHAT or INPUT in value)
    )


def unread_statement(said: object, file: str) -> str:
    """Why what a file states is no template, a sentence without its end; empty if it is one or nothing."""
    if said in (None, "", BARE_INPUT) or is_prompt_template(said):
        return ""
    return f"the {KEY} in {file} is neither text with {INPUT} nor the word {CHAT}: {quote_value(said)}"
