"""The card that every module of the English library carries."""

from demo.english import BASE_NAME
from demo.english.catalog import Combination

SHOWN_EXAMPLES = 3

CARD = """\
---
base_model: {base}
library_name: peft
license: apache-2.0
language: en
prompt_template: chat
tags:
{tags}
---

# {title}

{sentence}.

| input | output |
|---|---|
{rows}

A LoRA module (r = 8, alpha = 16, on q_proj and v_proj) for `{base}`, trained on this one task in the
chat format of its base: the input is the user's turn, the output is the assistant's.
"""


def module_tags(combination: Combination) -> list[str]:
    return ["demo", "english", *combination.skills]


def module_card(combination: Combination) -> str:
    examples = combination.examples("dev")[:SHOWN_EXAMPLES]
    return CARD.format(
        base=BASE_NAME,
        tags="\n".join(f"- {tag}" for tag in module_tags(combination)),
        title=combination.title,
        sentence=combination.sentence,
        rows="\n".join(f"| `{example.input}` | `{example.output}` |" for example in examples),
    )
