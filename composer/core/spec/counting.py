"""A number with its noun, for every sentence that counts something."""


def count_noun(number: int, noun: str) -> str:
    """Return the number with its noun, such as "1 example" or "1,200 examples" for the noun example."""
    return f"{number:,} {noun}{'' if number in (1, -1) else 's'}"


def is_or_are(number: int) -> str:
    """Return the verb for what `count_noun` counts."""
    return "is" if number in (1, -1) else "are"
