"""The template that turns an example's input into the prompt that a base model reads.

A template is text with {input} in it, or the word chat. With chat, the base model's own chat template
is used, and the input is the one message of the user. A request may leave the template open (auto); then
`choose_template` decides, once the base model's files are known.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.core.spec.counting import count_noun
from composer.core.spec.errors import InvalidJobError

INPUT = "{input}"
CHAT = "chat"
AUTO = "auto"
LINE = f"{INPUT}\n"  # the default of a decoder-only base without a chat template
MARKS = (
    ">",
    "]",
)  # the end of a mark such as <|assistant|> or [/INST], which parts prompt and answer by itself
NAMES_SHOWN = 3


@dataclass(frozen=True)
class ChosenTemplate:
    """The template of a composition.

    Attributes:
        template: text with {input}, or chat.
        reason: why it was chosen, as the end of a sentence.
    """

    template: str
    reason: str


def is_template(template: object) -> bool:
    """Return whether this is text with {input} in it, or the word chat."""
    return isinstance(template, str) and (template == CHAT or INPUT in template)


def require_template(template: object) -> str:
    """Return the template.

    Raises:
        InvalidJobError: it is neither text with {input} nor the word chat.
    """
    if isinstance(template, str) and is_template(template):
        return template
    raise InvalidJobError(
        "The template must contain {input}, where the example's input goes, or be the word chat."
    )


def require_asked_template(template: object) -> str:
    """Return the template that a request names, or AUTO if it names none: None, nothing or the word auto.

    Raises:
        InvalidJobError: as `require_template`.
    """
    return AUTO if template in (None, "", AUTO) else require_template(template)


def choose_template(
    asked: str,
    stated: Mapping[str, str | None],
    *,
    is_encoder_decoder: bool,
    has_chat: bool,
    chat_fault: str = "",
) -> ChosenTemplate:
    """Return the template of a composition.

    It is the one that the request names. If it names none, it is the one that most modules state; of
    equally many, the one that is stated first. If no module states one, it is the default of the base. The
    chat template of a base that has none counts as not stated.

    Args:
        asked: by the request, or AUTO.
        stated: the template that each module was trained with, by the module's name; None if unknown.
        is_encoder_decoder: whether the base model is an encoder-decoder.
        has_chat: whether the base model has a chat template that works.
        chat_fault: why the chat template that it has does not.
    """
    if asked != AUTO:
        return ChosenTemplate(asked, "as asked for")
    stated = unify_templates(AUTO, stated, is_encoder_decoder=is_encoder_decoder)
    counts = Counter(own for own in stated.values() if own is not None and (has_chat or own != CHAT))
    if counts:
        (template, count), *others = counts.most_common()
        what = "the modules were trained with it"
        if others or count < len(stated):
            was = "was" if count == 1 else "were"
            what = f"{count} of {count_noun(len(stated), 'module')} {was} trained with it"
            unknown = [name for name, own in stated.items() if own is None or not (has_chat or own != CHAT)]
            what += unknown_text(unknown)
        return ChosenTemplate(template, what)
    if is_encoder_decoder:
        return ChosenTemplate(INPUT, "the default of an encoder-decoder")
    if has_chat:
        return ChosenTemplate(CHAT, "the base model has a chat template")
    if chat_fault:
        return ChosenTemplate(LINE, f"the base model's chat template cannot be used: {chat_fault}")
    return ChosenTemplate(LINE, "the default of a decoder-only base model without a chat template")


def unknown_text(names: Sequence[str]) -> str:
    """Return the end of a sentence on modules whose template is not known; empty if there is none."""
    if not names:
        return ""
    which, are = ("that", "is") if len(names) == 1 else ("those", "are")
    return f"; {which} of {short_list(names)} {are} not known"


def unify_templates(
    chosen: str, stated: Mapping[str, str | None], *, is_encoder_decoder: bool
) -> dict[str, str | None]:
    """Return the stated templates; those that make the same prompts are all written as the first of them.

    A decoder-only base takes the spaces in front of the answer out of the prompt, so that "Answer: " and
    "Answer:" are one template there (`split_prompt`).

    Args:
        chosen: the template of the composition, which counts as the first; or AUTO.
        stated: as in `choose_template`.
        is_encoder_decoder: whether the base model is an encoder-decoder.
    """
    if is_encoder_decoder:
        return dict(stated)
    first = {} if chosen == AUTO else {normal_form(chosen): chosen}
    return {
        name: None if own is None else first.setdefault(normal_form(own), own) for name, own in stated.items()
    }


def normal_form(template: str) -> str:
    """Return the template with the spaces that the answer of a decoder-only base begins with."""
    return template if template == CHAT else "".join(split_prompt(template, INPUT))


def warning_of_other_templates(template: str, stated: Mapping[str, str | None]) -> str:
    """Return a warning that names the modules trained with another template; the empty text if none is.

    Args:
        template: of the composition.
        stated: as in `choose_template`.
    """
    by_template: dict[str, list[str]] = {}
    for name, own in stated.items():
        if own not in (None, template):
            by_template.setdefault(str(own), []).append(name)
    if not by_template:
        return ""
    others = "; ".join(f"{own!r} ({short_list(names)})" for own, names in by_template.items())
    return (
        f"Modules were trained with another template than the composition's {template!r}: {others}. Each is "
        "tried alone in its own template, and in the composition it reads the composition's."
    )


def warning_of_broken_chat(template: str, fault: str) -> str:
    """Return a warning if the base model's chat template cannot be used, and prompts are written without it.

    Args:
        template: of the prompts.
        fault: why it cannot be used; empty if it can, or if there is none.
    """
    if not fault or template == CHAT:
        return ""
    return (
        f"The base model's chat template cannot be used: {fault.rstrip('.')}. Prompts are written as "
        f"{template!r} instead. Repair its chat template, or give the template that you want."
    )


def warning_of_missing_chat(names: Sequence[str]) -> str:
    """Return a warning if modules state the template chat, and the base model has none that works."""
    if not names:
        return ""
    one = len(names) == 1
    state = "states that it was" if one else "state that they were"
    unknown = "Its template counts" if one else "Their templates count"
    return (
        f"This base model has no chat template that works, though {short_list(names)} {state} trained with "
        f"it. {unknown} as unknown."
    )


def notes_of_unread_templates(unread: Mapping[str, str]) -> list[str]:
    """Return sentences on modules that say of their template what cannot be read.

    Args:
        unread: what each of them says, by the module's name.
    """
    return [
        f"{note}. Unless something else tells the template that it was trained with, it counts as unknown. "
        "Give that template, if you know it."
        for note in notes_by_text(unread)
    ]


def notes_by_text(texts: Mapping[str, str]) -> list[str]:
    """Return each text that is said of a module, with the names of the modules that it is said of.

    Args:
        texts: by the module's name; an empty one is not said.
    """
    names_of: dict[str, list[str]] = {}
    for name, text in texts.items():
        if text:
            names_of.setdefault(text, []).append(name)
    return [f"{short_list(names)}: {text}" for text, names in names_of.items()]


def short_list(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def warning_of_gluing(template: str, *, is_encoder_decoder: bool, has_chat: bool) -> str:
    """Return a warning if words are glued: to the input, or the prompt to the answer; else the empty text.

    Args:
        template: of the prompts.
        is_encoder_decoder: the base model reads prompt and answer apart.
        has_chat: whether the base model has a chat template, which would be the better choice.
    """
    if template == CHAT:
        return ""
    glued = glued_words(template)
    if glued:
        return (
            f"The template {template!r} puts no space between the input and {' and '.join(glued)}, so they "
            "are read as one word. Unless the modules were trained that way, put a space between them."
        )
    if is_encoder_decoder or not template.endswith(INPUT):
        return ""
    instead = repr(CHAT) if has_chat else f"{template!r} and a line break"
    return (
        f"The template {template!r} puts no white space between prompt and answer, so this base reads both "
        f"as one word. Unless the modules were trained that way, use the template {instead}."
    )


def glued_words(template: str) -> list[str]:
    """Return the words of a template that touch an input, each in quotes."""
    before = re.findall(rf"(\w+){re.escape(INPUT)}", template)
    behind = re.findall(rf"{re.escape(INPUT)}(\w+)", template)
    return [f"“{word}”" for word in (*before, *behind)]


def fill_template(template: str, text: str) -> str:
    """Return the prompt: the template with every {input} replaced by the text.

    Other braces of the template stay as they are, because it is not a format string.
    """
    return template.replace(INPUT, text)


def split_prompt(template: str, text: str) -> tuple[str, str]:
    """Return the prompt of a decoder-only base and the spaces that its answer begins with.

    Spaces at the end of the prompt belong to the answer, because most tokenizers join a space with the word
    behind it. If the template ends with a word, such as "Answer:", the answer begins with one space.

    Args:
        template: text with {input}.
        text: the input.
    """
    prompt = fill_template(template, text)
    bare = prompt.rstrip(" ")
    if bare and bare != prompt:
        return bare, prompt[len(bare) :]
    after = template.rpartition(INPUT)[2]
    ends_with_word = after != "" and not after[-1].isspace() and not after.endswith(MARKS)
    return prompt, " " if ends_with_word else ""
