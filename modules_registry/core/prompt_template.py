"""What a prompt template is: text with {input} where an example's input goes, or the word chat."""

KEY = "prompt_template"  # in adapter_config.json and in the front matter of a card
INPUT = "{input}"
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
