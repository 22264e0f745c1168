"""The prompt of a base model's chat template, made once, when the model comes into the library.

A page shows it without loading a tokenizer. What the model really reads, the run records: it applies the
template by transformers.

The template is a stranger's program: it runs in the sandbox that transformers runs it in.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from modules_registry.core.prompt_template import INPUT, hides_input

CHAT_TEMPLATE_FILE, TOKENIZER_FILE = "chat_template.jinja", "tokenizer_config.json"
LENGTH_MAX = 10_000  # characters of a prompt that is kept
ANSWER = "an answer"
# A stranger's template can raise these.
TEMPLATE_FAILS = (
    TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class ChatPrompt:
    """What stands around an input and behind an answer.

    `prompt`: with {input} where the input goes; empty without a chat template, None where it cannot be told.
    `hides_input`: the template makes the same prompt of different inputs.
    """

    prompt: str | None
    answer_end: str
    hides_input: bool = False


def chat_prompt_of(folder: Path) -> ChatPrompt:
    """The chat prompt of a base model's folder."""
    config = tokenizer_config(folder)
    end = token_text(config.get("eos_token"))
    source = chat_template(folder, config)
    if not source:
        return ChatPrompt("", end)
    try:
        return render_prompt(source, config, end)
    except TEMPLATE_FAILS:
        return ChatPrompt(None, end)


def render_prompt(source: str, config: dict[str, Any], end: str) -> ChatPrompt:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = str  # the format itself: the date is that of the run
    template = environment.from_string(source)
    texts = {name: token_text(value) for name, value in config.items() if name.endswith("_token")}

    def prompt_of(text: str) -> str:
        return template.render(messages=[user_turn(text)], add_generation_prompt=True, **texts)

    question, answer = user_turn(INPUT), {"role": "assistant", "content": ANSWER}
    prompt = prompt_of(INPUT)
    if hides_input(prompt_of):
        return ChatPrompt(None, end, hides_input=True)
    whole = template.render(messages=[question, answer], add_generation_prompt=False, **texts)
    template.render(messages=[question, answer, question], add_generation_prompt=True, **texts)
    asks_nothing = prompt == template.render(messages=[question], add_generation_prompt=False, **texts)
    if asks_nothing and whole.startswith(prompt):  # it does not begin the answer's turn by itself
        prompt += whole.removeprefix(prompt).partition(ANSWER)[0].rstrip(" ")
    if INPUT not in prompt or len(prompt) > LENGTH_MAX:
        return ChatPrompt(None, end)
    return ChatPrompt(prompt, whole.rpartition(ANSWER)[2].strip()[:LENGTH_MAX] or end)


def user_turn(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def refuse(message: str) -> None:
    """What templates call where they take no such turns."""
    raise TemplateError(message)


def chat_template(folder: Path, config: dict[str, Any]) -> str:
    """The source of the template: a file of its own, or an entry of tokenizer_config.json."""
    path = folder / CHAT_TEMPLATE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def tokenizer_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / TOKENIZER_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def token_text(token: object) -> str:
    """A special token: text, or an object with its text as `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
