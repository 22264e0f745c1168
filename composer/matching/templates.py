"""The template of a composition, as far as the site knows it: by the core's own rule, from stored facts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from composer.core.spec.templates import (
    AUTO,
    CHAT,
    INPUT,
    ChosenTemplate,
    choose_template,
    fill_template,
    split_prompt,
)
from composer.models import Composition
from modules_registry.models import BaseModel, Version


@dataclass(frozen=True)
class PromptPreview:
    """What the model will read, as far as it is known before the run.

    `prompt` and `answer` hold the marks of the chat template; what a tokenizer adds by itself they do not.
    """

    prompt: str
    answer: str


def site_template(base: BaseModel, asked: str, stated: Mapping[str, str]) -> ChosenTemplate:
    """The template that a run on this base would choose; AUTO where only the run can tell.

    Args:
        asked: by the request; it may leave it open.
        stated: the template of each module by its name; empty where it is not known.
    """
    chosen = choose_template(
        asked,
        {name: template or None for name, template in stated.items()},
        is_encoder_decoder=base.kind == BaseModel.Kind.SEQ2SEQ,
        has_chat=base.chat_prompt != "",  # null: it may have one
    )
    if chosen.template == CHAT and base.chat_prompt is None and not any(stated.values()) and asked != CHAT:
        return ChosenTemplate(AUTO, "the run decides: whether the base has a chat template is not known here")
    return chosen


def stated_templates(versions: Iterable[tuple[str, Version]]) -> dict[str, str]:
    """The templates that versions state, by the names of their modules."""
    return {name: version.prompt_template for name, version in versions}


def composition_template(composition: Composition) -> str:
    """The template of a composition: of its report, or the one that its run chooses."""
    if composition.report is not None:
        template: str = composition.report["template"]
        return template
    rows = composition.modules.select_related("version")
    stated = stated_templates((row.name, row.version) for row in rows)
    return site_template(composition.base, composition.template, stated).template


def preview_prompt(base: BaseModel, template: str, text: str, output: str) -> PromptPreview | None:
    """One example in this template; None where only the run can tell."""
    if template == CHAT:
        if not base.chat_prompt:
            return None
        return PromptPreview(fill_template(base.chat_prompt, text), output.strip() + base.answer_end)
    if INPUT not in template:
        return None
    if base.kind == BaseModel.Kind.SEQ2SEQ:
        return PromptPreview(fill_template(template, text) + base.answer_end, output + base.answer_end)
    prompt, space = split_prompt(template, text)
    return PromptPreview(prompt, space + output.strip() + base.answer_end)
