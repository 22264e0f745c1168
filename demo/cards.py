"""The card that every demo module carries."""

from itertools import islice

from demo.grammar import SKILLS, Combination, hub_examples
from demo.train import BASE_NAME

SHOWN_EXAMPLES = 3

CARD = """\
---
base_model: {base}
library_name: peft
license: apache-2.0
tags:
{tags}
---

# {title}

{sentence}.

| input | output |
|---|---|
{rows}

A LoRA module (r = 8, alpha = 16, on q and v) for the demo base model `{base}`, trained on
generated examples of this one task. It knows the 72 words of the demo world and no others.
"""


def module_title(combination: Combination) -> str:
    """A name for people, such as "Place picker + French"."""
    return " + ".join(SKILLS[skill].title for skill in combination.skills)


def module_tags(combination: Combination) -> list[str]:
    return ["demo", *combination.skills]


def module_card(combination: Combination) -> str:
    examples = islice(hub_examples(combination, "card"), SHOWN_EXAMPLES)
    return CARD.format(
        base=BASE_NAME,
        tags="\n".join(f"- {tag}" for tag in module_tags(combination)),
        title=module_title(combination),
        sentence=combination.sentence,
        rows="\n".join(f"| `{example.input}` | `{example.output}` |" for example in examples),
    )
