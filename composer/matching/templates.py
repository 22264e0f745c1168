"""The template of a composition, as far as the site knows it: by the core's own rule, from stored facts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from composer.core.spec.counting import count_noun
from composer.core.spec.templates import (
    AUTO,
    CHAT,
    INPUT,
    ChosenTemplate,
    choose_template,
    fill_template,
    split_prompt,
    unify_templates,
    warning_of_gluing,
    warning_of_missing_chat,
    warning_of_other_templates,
)
from composer.models import Composition
from hub_site.common.visible_text import visible
from modules_registry.models import BaseModel, Version


@dataclass(frozen=True)
class PromptPreview:
    """What the model will read, as far as it is known before the run.

    `prompt` and `answer` hold the marks of the chat template; what a tokenizer adds by itself they do not.
    Both are empty where only the run can tell.
    """

    template: str
    reason: str
    prompt: str
    answer: str
    warnings: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        return bool(self.prompt or self.answer)


def preview_of(
    base: BaseModel, asked: str, stated: Mapping[str, str], text: str, output: str
) -> PromptPreview:
    """How an example would be read, and what to know of the modules' own templates.

    Args:
        asked: by the request, or AUTO; as it is typed, so that it may be no template at all.
        stated: as in `site_template`, of the modules that would take part.
    """
    chosen = site_template(base, asked, stated)
    prompt, answer = read_parts(base, chosen.template, text, output)
    has_chat = base.chat_prompt != ""
    is_encoder_decoder = base.kind == BaseModel.Kind.SEQ2SEQ
    told = unify_templates(
        chosen.template,
        {name: template or None for name, template in stated.items() if has_chat or template != CHAT},
        is_encoder_decoder=is_encoder_decoder,
    )
    is_trained_so = bool(told) and set(told.values()) == {chosen.template}
    glued = warning_of_gluing(chosen.template, is_encoder_decoder=is_encoder_decoder, has_chat=has_chat)
    warnings = (
        warning_of_missing_chat([name for name in stated if name not in told]),
        warning_of_other_templates(chosen.template, told),
        "" if is_trained_so else glued,
    )
    return PromptPreview(
        chosen.template, chosen.reason, prompt, answer, tuple(text for text in warnings if text)
    )


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
        return ChosenTemplate(
            AUTO, "decided during the run, as it is not known yet whether the base has a chat template"
        )
    return chosen


def stated_templates(versions: Iterable[tuple[str, Version]]) -> dict[str, str]:
    """The templates that versions state, by the names of their modules."""
    return {name: version.prompt_template for name, version in versions}


def composition_template(composition: Composition) -> str:
    """The template of a composition: as asked for, or the one that its run chose or will choose."""
    if composition.template != AUTO:
        return composition.template
    if composition.report is not None:
        template: str = composition.report["template"]
        return template
    rows = composition.modules.select_related("version")
    stated = stated_templates((row.name, row.version) for row in rows)
    return site_template(composition.base, composition.template, stated).template


def read_parts(base: BaseModel, template: str, text: str, output: str) -> tuple[str, str]:
    """Prompt and answer of one example in this template; two empty texts where only the run can tell."""
    if template == CHAT and base.chat_prompt:
        return fill_template(base.chat_prompt, text), output.strip() + base.answer_end
    if INPUT not in template:
        return "", ""
    if base.kind == BaseModel.Kind.SEQ2SEQ:
        return fill_template(template, text) + base.answer_end, output + base.answer_end
    prompt, space = split_prompt(template, text)
    return prompt, space + output.strip() + base.answer_end


def prompt_blocks(
    prompt: str, answer: str, prompt_tokens: int | None = None, answer_tokens: int | None = None
) -> dict[str, str]:
    """A prompt and its answer as a page shows them: line breaks and outer spaces visible, and how long."""
    return {
        "prompt": visible(prompt),
        "answer": visible(answer),
        "prompt_label": f"Prompt{tokens_counted(prompt_tokens)}",
        "answer_label": f"Answer{tokens_counted(answer_tokens)}",
    }


def tokens_counted(number: int | None) -> str:
    return "" if number is None else f", {count_noun(number, 'token')}"
