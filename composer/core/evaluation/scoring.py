"""Figures of one adapter, or of the base model alone, on examples.

`evaluate_adapter` is the command `evaluate` of the command line.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from composer.core.methods.base import Adapters, single_modules
from composer.core.model.base_model import ROWS_AT_ONCE, FrozenBaseModel
from composer.core.modules.module_stack import base_weights_in, read_module, repair_texts, stack_modules
from composer.core.modules.sources import Source
from composer.core.spec import choices
from composer.core.spec.errors import BaseModelError, ExamplesError, InvalidJobError
from composer.core.spec.examples import Example
from composer.core.spec.metrics import (
    accuracy,
    is_reference_match,
    longest_useful_answer,
    warning_of_unwritable,
)
from composer.core.spec.templates import (
    AUTO,
    ChosenTemplate,
    notes_by_text,
    notes_of_unread_templates,
    require_asked_template,
    warning_of_broken_chat,
)
from modules_registry.trained_templates import read_card_of, template_of_folder


def evaluate_adapter(
    *,
    base: Source,
    adapter: Source | None,
    examples: Sequence[Example],
    template: str = choices.DEFAULT_TEMPLATE,
    max_new_tokens: int = choices.DEFAULT_MAX_NEW_TOKENS,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> dict[str, float | int]:
    """Measure a base model on examples, with or without an adapter.

    Args:
        base: the base model.
        adapter: the adapter; None for the base model alone.
        examples: at least one.
        template: of the prompts; auto takes the adapter's own, or the default of the base model.
        max_new_tokens: the most tokens of one answer.
        on_event: called with what the model reads (prompt), and with what may spoil the figures (warning).

    Returns:
        n; exact_match_percent and reference_match_percent (as the released LoraHub counts), both of greedy
        answers, 0 to 100; and loss_nats_per_token, in nats per label token.

    Raises:
        ComposeError: the template, the examples, the base model or the adapter cannot be used, or the loss
            is not a number.
    """
    template = require_asked_template(template)
    if not 1 <= max_new_tokens <= choices.MAX_NEW_TOKENS_LIMIT:
        limit = choices.MAX_NEW_TOKENS_LIMIT
        raise InvalidJobError(f"max_new_tokens must be a whole number from 1 to {limit}.")
    model = FrozenBaseModel.load(base.folder, name=base.name)
    found = {} if adapter is None else {adapter.name: template_of_folder(adapter.folder)}
    stated = {name: own.template or None for name, own in found.items()}
    chosen = model.choose_template(template, stated)
    model.template = chosen.template
    require_prompts_fit(model, examples)
    on_event(prompt_event(chosen, model.describe_prompt(model.encode(examples[:1]))))
    unread = {name: own.unread for name, own in found.items() if template == AUTO and own.unread}
    head_faults = {} if adapter is None else {adapter.name: read_card_of(adapter.folder).head_fault}
    for text in (
        *notes_by_text(head_faults),
        *notes_of_unread_templates(unread),
        warning_of_broken_chat(chosen.template, model.chat_fault),
        model.template_warning(),
        warning_of_unwritable(examples, model.round_trip),
    ):
        if text:
            on_event({"event": "warning", "text": text})
    adapters: Adapters = {}
    if adapter is not None:
        base_weights = base_weights_in(base.folder)
        module = read_module(adapter.folder, adapter.name, base_weights=base_weights)
        for text in repair_texts([module]):
            on_event({"event": "warning", "text": text})
        stack = stack_modules([module])
        model.require_layers(stack.layers)
        model.hook(layer.path for layer in stack.layers)
        adapters = single_modules(stack, [0])
    length = longest_useful_answer(examples, max_new_tokens)
    with model.single_thread_if_small():
        (answers,) = model.answers([model.prompt(example.input) for example in examples], length, adapters)
        nats, tokens = score_examples(model, examples, adapters)
    if not math.isfinite(nats):
        raise BaseModelError("The loss is not a number: the base model or the adapter holds broken weights.")
    reference = [is_reference_match(a, e.output) for a, e in zip(answers, examples, strict=True)]
    return {
        "n": len(examples),
        "exact_match_percent": accuracy(answers, examples).percent,
        "reference_match_percent": 100 * sum(reference) / len(examples),
        "loss_nats_per_token": nats / tokens,
    }


def prompt_event(chosen: ChosenTemplate, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that tells what the model reads: the template, and the first example in it."""
    return {"event": "prompt", "template": chosen.template, "reason": chosen.reason, **shown}


@torch.no_grad()
def require_prompts_fit(base: FrozenBaseModel, examples: Sequence[Example], called: str = "Example") -> None:
    """Refuse an example that the base model cannot read whole, before anything is computed for it.

    Args:
        base: the frozen model.
        examples: to be answered.
        called: the word before the number of an example in the message.

    Raises:
        ExamplesError: an example's prompt has more tokens than fit; names the example.
    """
    max_tokens = base.context_length() - (
        not base.is_encoder_decoder
    )  # a decoder needs a position for its answer
    for number, example in enumerate(examples, start=1):
        length = base.prompt_length(base.prompt(example.input))
        if length > max_tokens:
            raise ExamplesError(
                f"{called} {number} is {length} tokens long; at most {max_tokens} fit. Shorten it."
            )


def score_examples(
    base: FrozenBaseModel, examples: Sequence[Example], adapters: Adapters
) -> tuple[float, int]:
    """Return (nats, label tokens) of one candidate, each summed over all examples, ROWS_AT_ONCE at a time."""
    nats, tokens = 0.0, 0
    for start in range(0, len(examples), ROWS_AT_ONCE):
        batch = base.encode(examples[start : start + ROWS_AT_ONCE])
        nats += float(base.token_nats(batch, adapters).sum())
        tokens += int(batch.label_tokens.sum())
    return nats, tokens
